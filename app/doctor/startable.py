"""Could `gateway serve` start with these settings? What it would refuse, without asking anybody."""

from collections.abc import Callable, Sequence

from app import __version__
from app.audit.checkpoints.places import place_of
from app.audit.start import signing_keys_of, spool_root
from app.limits.start import check_redis_url
from app.main import check_given, redaction_of, rules_of, sealer_of
from app.settings import Settings, SettingsError
from app.store.database import create_engine
from app.telemetry.metrics import Metrics
from app.telemetry.trace_start import trace_sdk_of
from app.upstream.membership.start import check_workers

# Raises SettingsError.
Part = Callable[[Settings], object]


def check_database_url(settings: Settings) -> None:
    if settings.database_url is not None:
        create_engine(settings.database_url.get_secret_value())


def check_signing_keys(settings: Settings) -> None:
    if settings.audit_signing_key is not None:
        signing_keys_of(settings, b"")


def check_checkpoints(settings: Settings) -> None:
    place_of(settings.audit_checkpoints, spool_root(settings)).close()


def check_rules(settings: Settings) -> None:
    metrics = Metrics(version=__version__)
    redaction_of(settings, rules_of(settings, metrics), metrics)


# What stands in the settings themselves, and what they name.
ALONE: Sequence[Part] = (
    check_given, check_workers, check_database_url, check_redis_url, sealer_of, check_signing_keys,
    trace_sdk_of,
)  # fmt: skip
NAMED: Sequence[Part] = (check_checkpoints, check_rules)


def faults_of(settings: Settings, parts: Sequence[Part] = (*ALONE, *NAMED)) -> list[str]:
    """A line for each, which names the setting."""
    faults: list[str] = []
    for part in parts:
        try:
            part(settings)
        except SettingsError as error:
            faults += error.faults
    return faults
