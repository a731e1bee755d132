"""The bill of materials names what the image installs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = re.compile(r"^([a-z0-9-]+)==([^ ]+) .*\n((?: +--hash=\S+.*\n)+)", re.MULTILINE)


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    command = [sys.executable, ROOT / "deploy" / "image" / "sbom.py"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_locked_package_is_in_it_with_its_hashes(bill: dict[str, Any]) -> None:
    lock = (ROOT / "requirements" / "image.lock").read_text("utf-8")
    locked = {
        (name, version): set(re.findall(r"sha256:([0-9a-f]{64})", hashes))
        for name, version, hashes in PACKAGE.findall(lock)
    }
    assert len(locked) == lock.count("==")
    assert {
        (each["name"], each["version"]): {
            digest["content"]
            for reference in each["externalReferences"]
            for digest in reference["hashes"]
        }
        for each in bill["components"]
    } == locked


def test_it_is_the_gateways_and_names_what_that_depends_on(bill: dict[str, Any]) -> None:
    gateway = bill["metadata"]["component"]
    assert (gateway["name"], gateway["version"]) == ("qwythos-gateway", __version__)
    [parts] = [
        each["dependsOn"] for each in bill["dependencies"] if each["ref"] == gateway["bom-ref"]
    ]
    assert set(parts) == {each["bom-ref"] for each in bill["components"]}


def test_nothing_in_it_changes_from_one_making_to_the_next(bill: dict[str, Any]) -> None:
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
