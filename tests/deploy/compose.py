"""docker-compose.yml, read as `docker compose` does where one of its profiles is chosen."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROFILES = ("embedded", "gpu")
OURS = ("qwythos-gateway", "qwythos-embedded-worker")

Service = dict[str, Any]


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


def services(profile: str | None = None) -> dict[str, Service]:
    """Those that a profile starts; without one, all there are."""
    return {
        name: service
        for name, service in document()["services"].items()
        if profile is None or profile in service.get("profiles", [profile])
    }


def environment(service: Service, profile: str) -> dict[str, str]:
    chosen = "${COMPOSE_PROFILES:?is in .env}"
    given = service.get("environment", {})
    return {name: str(value).replace(chosen, profile) for name, value in given.items()}


def mounts(service: Service) -> dict[str, str]:
    """What is mounted from the repository, by where it is mounted."""
    parts = (mount.split(":") for mount in service.get("volumes", []))
    return {part[1]: part[0] for part in parts if part[0].startswith("./")}


def names_on(network: str, service: Service, name: str) -> set[str]:
    """What others on that network call it."""
    joined = service.get("networks", [])
    if network not in joined:
        return set()
    options = (joined[network] or {}) if isinstance(joined, dict) else {}
    return {name, *options.get("aliases", [])}


def is_ours(service: Service) -> bool:
    return str(service["image"]).partition(":")[0] in OURS
