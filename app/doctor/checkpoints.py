"""The second place of the audit log's checkpoints."""

from collections.abc import Sequence

from app.audit.checkpoints.places import place_of
from app.audit.checkpoints.publisher import PlaceFailed
from app.audit.start import spool_root
from app.doctor.finding import Finding, failed, well
from app.doctor.visit import Visit
from app.settings import SettingsError

NAME_ANOTHER = "name another place in GATEWAY_AUDIT_CHECKPOINTS, or give it the right"


def check(visit: Visit) -> Sequence[Finding]:
    settings = visit.settings
    root = spool_root(settings)
    try:
        place = place_of(settings.audit_checkpoints, root)
    except SettingsError as error:
        return [failed("checkpoints", str(error), NAME_ANOTHER)]
    try:
        words = place.reach()
    except PlaceFailed as error:
        return [failed("checkpoints", str(error), NAME_ANOTHER)]
    finally:
        place.close()
    if settings.audit_checkpoints is None:
        words += "; GATEWAY_AUDIT_CHECKPOINTS may name a place that is out of this machine's reach"
    return [well("checkpoints", words)]
