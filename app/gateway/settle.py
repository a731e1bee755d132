"""The reservation, trued up to what was used."""

from app.limits.local import LocalLimits, Reservation
from app.protocol.events import Usage


def settle(reservation: Reservation | None, usage: Usage, limits: LocalLimits) -> None:
    if reservation is not None:
        limits.settle(reservation, usage.total_tokens)
