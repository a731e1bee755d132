from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointUnreadable,
    make_checkpoint,
    parse_checkpoint,
)
from app.audit.checkpoints.signing import derived_signing_keys

KEYS = derived_signing_keys(b"pepper")
WRITER = "0123456789abcdef" * 2
HEAD = ChainHead(1000, bytes(range(32)))
AT = 1_700_000_000.25


def checkpoint(**changes: Any) -> Checkpoint:
    given: dict[str, Any] = {"at": AT, "previous": 990, "register": (3, bytes(32))} | changes
    return make_checkpoint(KEYS, WRITER, HEAD, **given)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    values = orjson.loads(checkpoint().payload)
    change(values)
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)


def test_what_was_stated_is_read_back_and_signed() -> None:
    read = parse_checkpoint(checkpoint(closed=True).payload)

    assert read == checkpoint(closed=True)
    assert (read.writer, read.head, read.previous) == (WRITER, HEAD, 990)
    assert read.register == (3, bytes(32))
    assert read.closed
    assert read.at.timestamp() == AT
    assert read.key == KEYS.public_key
    assert read.is_signed()


def test_the_first_of_a_writer_knows_none_before_and_perhaps_no_register() -> None:
    read = parse_checkpoint(checkpoint(previous=None, register=None).payload)

    assert (read.previous, read.register) == (None, None)


def test_it_is_one_line() -> None:
    assert b"\n" not in checkpoint().payload


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("writer", "f" * 32),
        ("sequence", 1001),
        ("hash", "00" * 32),
        ("at", "2030-01-01T00:00:00+00:00"),
        ("previous", 1),
        ("register", None),
        ("closed", True),
        ("key", derived_signing_keys(b"another").public_key),
        ("signature", "00" * 64),
    ],
)
def test_whatever_is_changed_breaks_the_signature(name: str, value: object) -> None:
    forged = parse_checkpoint(changed(lambda values: values.update({name: value})))

    assert not forged.is_signed()


def test_a_stranger_can_sign_with_a_key_of_his_own_which_is_then_seen() -> None:
    forged = make_checkpoint(
        derived_signing_keys(b"another"), WRITER, HEAD, at=AT, previous=None, register=None
    )

    assert forged.is_signed()
    assert forged.key not in KEYS.public_keys


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values.update(format=2), "format 2"),
        (lambda values: values.update(format=True), "format True"),
        (lambda values: values.pop("closed"), "members"),
        (lambda values: values.update(more=1), "members"),
        (lambda values: values.update(writer="A" * 32), "writer"),
        (lambda values: values.update(sequence=True), "sequence"),
        (lambda values: values.update(sequence=-1), "sequence"),
        (lambda values: values.update(sequence="1"), "sequence"),
        (lambda values: values.update(hash="00"), "32 bytes"),
        (lambda values: values.update(hash="AA" * 32), "32 bytes"),
        (lambda values: values.update(hash=" 0" * 32), "32 bytes"),
        (lambda values: values.update(at="yesterday"), "at is no time"),
        (lambda values: values.update(at=5), "at is no time"),
        (lambda values: values.update(at="2026-01-01T00:00:00"), "no time zone"),
        (lambda values: values.update(register=[1]), "register"),
        (lambda values: values.update(register=[1, "00"]), "32 bytes"),
        (lambda values: values.update(closed=1), "closed"),
        (lambda values: values.update(signature=None), "64 bytes"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_its_reason(
    change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    with pytest.raises(CheckpointUnreadable, match=reason):
        parse_checkpoint(changed(change))


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff", b"{}" + b" " * 5000])
def test_bytes_that_are_no_object_are_refused(payload: bytes) -> None:
    with pytest.raises(CheckpointUnreadable):
        parse_checkpoint(payload)
