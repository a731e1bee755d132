"""The image's bill of materials, CycloneDX JSON on standard output: `sbom.py > sbom.json`.

From the lock file that the image is installed from, so each package stands there with its version
and the hashes of all files that may have been installed. The same lock gives the same bytes. What
the base image brings is its own to tell.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from cyclonedx.contrib.hash.factories import HashTypeFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from pip_requirements_parser import InstallRequirement, RequirementsFile

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "image.lock"


def main() -> None:
    json.dump(written(bill()), sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


def bill() -> Bom:
    """The gateway, which depends on each package of the lock."""
    found = Bom()
    found.metadata.component = gateway = _gateway()
    parts = [_package(line) for line in RequirementsFile.from_file(str(LOCK)).requirements]
    found.components.update(parts)
    found.register_dependency(gateway, parts)
    return found


def written(found: Bom) -> dict[str, Any]:
    """Without what differs from one making to the next."""
    content: dict[str, Any] = json.loads(JsonV1Dot6(found).output_as_string())
    del content["serialNumber"], content["metadata"]["timestamp"]
    return content


def _gateway() -> Component:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return Component(
        type=ComponentType.APPLICATION,
        name=project["name"],
        version=project["version"],
        description=project["description"],
        licenses=[LicenseExpression(project["license"])],
        bom_ref=project["name"],
    )


def _package(line: InstallRequirement) -> Component:
    """As the lock has it: `name==version`, and a hash for each file."""
    name, version = str(line.name), line.get_pinned_version
    hashes = [HashTypeFactory().from_composite_str(each) for each in line.hash_options]
    url = PackageURL("pypi", name=name, version=version)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=url.to_string(),
        purl=url,
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(url.to_string()),
                comment="one hash for each of its files",
                hashes=hashes,
            )
        ],
    )


if __name__ == "__main__":
    main()
