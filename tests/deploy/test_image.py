"""What the image holds: what the stage `build` of the Dockerfile makes of one directory."""

import re
import subprocess
from pathlib import Path

from app import __version__

ROOT = Path(__file__).parents[2]
MAX_BYTES = 250 * 1000 * 1000  # beyond the base


def test_it_is_smaller_than_was_promised(image_environment: Path) -> None:
    files = [
        path for path in image_environment.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_it_holds_our_command_and_no_other(image_environment: Path) -> None:
    commands = {path.name for path in (image_environment / "bin").iterdir()}
    assert {name for name in commands if not name.startswith("python")} == {"gateway"}


def test_nothing_is_left_to_install_packages_with(image_environment: Path) -> None:
    [packages] = image_environment.glob("lib/python3.*/site-packages")
    for name in ("pip", "setuptools", "wheel", "hatchling", "pytest"):
        assert not list(packages.glob(f"{name}*"))
    assert not list(packages.glob("*/tests"))


def test_every_locked_package_is_in_it(image_environment: Path) -> None:
    """But for those that other systems and Pythons need."""
    lock = (ROOT / "requirements" / "image.lock").read_text("utf-8")
    wanted = set(re.findall(r"^([a-z0-9-]+)==\S+ \\$", lock, flags=re.MULTILINE))
    listed = _python(
        image_environment,
        "import importlib.metadata as m, re\n"
        "for each in m.distributions():\n"
        "    print(re.sub('[-_.]+', '-', each.metadata['Name']).lower())\n",
    )
    assert wanted <= set(listed.split())
    assert "qwythos-gateway" in listed.split()


def test_no_module_is_left_to_be_compiled_on_a_read_only_disk(image_environment: Path) -> None:
    [packages] = image_environment.glob("lib/python3.*/site-packages")
    assert list(packages.glob("app/__pycache__/main.*.pyc"))
    before = _compiled(packages)
    _python(image_environment, "import app.cli")
    assert _compiled(packages) == before


def test_what_an_operator_may_turn_on_is_there(image_environment: Path) -> None:
    """Of botocore, most services were taken out."""
    _python(
        image_environment,
        "import boto3, opentelemetry.sdk.trace\n"
        "import opentelemetry.exporter.otlp.proto.http.trace_exporter\n"
        "for name in ('s3', 'sts', 'sso', 'sso-oidc'):\n"
        "    boto3.client(name, region_name='eu-central-1')\n",
    )


def test_the_command_says_its_version(image_environment: Path) -> None:
    said = subprocess.run(
        [image_environment / "bin" / "gateway", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"gateway, version {__version__}\n"


def _python(environment: Path, code: str) -> str:
    """What the image's interpreter prints."""
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _compiled(packages: Path) -> set[Path]:
    return set(packages.rglob("*.pyc"))
