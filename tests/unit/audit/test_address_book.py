"""Addresses of messages that an export has, and that it should have."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.audit.address_book import AddressBook
from app.audit.verify.evidence import Reference

REFERENCE = Reference(
    "acme", b"a" * 32, first_day=20_000, last_day=20_004,
    writer="ab" * 16, sequence=3, request_id="req_1",
)  # fmt: skip


@pytest.fixture
def book() -> Iterator[AddressBook]:
    book = AddressBook()
    yield book
    book.close()


def test_what_is_wanted_and_not_there_is_missing_with_its_days(book: AddressBook) -> None:
    there = replace(REFERENCE, address=b"b" * 32)
    book.want([REFERENCE, there])
    book.add(there.tenant, there.address)

    assert list(book.missing()) == [REFERENCE]


def test_it_is_missing_for_the_first_and_kept_for_as_long_as_any_wants_it(
    book: AddressBook,
) -> None:
    later = replace(REFERENCE, first_day=20_003, sequence=9, request_id="req_2")

    book.want([REFERENCE, later, REFERENCE])

    assert list(book.missing()) == [replace(REFERENCE, first_day=20_003)]
