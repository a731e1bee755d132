"""The filter rules: those that ship, those of the operator, and the profiles that are named."""

from collections.abc import Sequence

from app.doctor.finding import Finding, failed, well
from app.doctor.startable import check_rules, faults_of
from app.doctor.visit import Visit


def check(visit: Visit) -> Sequence[Finding]:
    settings = visit.settings
    advice = "`gateway rules list --rules PATH` shows what is there"
    if faults := faults_of(settings, [check_rules]):
        return [failed("rules", fault, advice) for fault in faults]
    own = f"with {settings.rules}" if settings.rules is not None else "those that ship"
    return [well("rules", f"{own}; keys that name none get the profile {settings.filter_profile}")]
