"""Subjects and demands of tests about limits."""

from itertools import count

from app.limits.subjects import Demand, Subject, SubjectKind
from app.store.policy import Limits

_numbers = count(1)


def key(name: str = "key_a", tenant: str = "acme", **limits: int) -> Subject:
    return Subject(SubjectKind.KEY, name, tenant, Limits(**limits))


def tenant(name: str = "acme", **limits: int) -> Subject:
    return Subject(SubjectKind.TENANT, name, name, Limits(**limits))


def demand(*subjects: Subject, tokens: int = 0, name: str = "", requests: int = 1) -> Demand:
    """Of a request of its own, where it has no name."""
    return Demand(name or f"req_{next(_numbers)}", subjects, tokens, requests)


def counted(*subjects: Subject, requests: int = 1) -> Demand:
    """Of a request that reserves nothing."""
    return Demand(f"req_{next(_numbers)}", subjects, 0, requests, reserving=False)
