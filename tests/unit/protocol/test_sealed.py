"""Sealed reasoning: keys, bounds, and what a forger would try first."""

import base64
import hashlib

import pytest

from app.protocol.sealed import (
    KEY_ID_CHARACTERS,
    MAX_SEALED_CHARACTERS,
    MAX_THOUGHT_BYTES,
    PAD_BYTES,
    SealBroken,
    Sealer,
    parse_sealing_keys,
)

# Bytes that both alphabets of base64 spell differently.
KEY = bytes([0xFB, 0xEF, 0xFF]) * 10 + b"ab"
OTHER_KEY = bytes(range(32))
MIB = 1024 * 1024
STANDARD, URL_SAFE = base64.b64encode(KEY).decode(), base64.urlsafe_b64encode(KEY).decode()
OTHER = base64.b64encode(OTHER_KEY).decode()


def sealer(*keys: bytes, seconds: float = 60.0) -> Sealer:
    return Sealer(keys or (KEY,), seconds=seconds)


def reason_against(sealed: str, opener: Sealer, *, now: float = 0.0) -> str:
    with pytest.raises(SealBroken) as caught:
        opener.open(sealed, tenant="t", model="m", now=now)
    return caught.value.reason


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (STANDARD, (KEY,)),
        (URL_SAFE, (KEY,)),
        (URL_SAFE.rstrip("="), (KEY,)),
        (f"{OTHER},{STANDARD}", (OTHER_KEY, KEY)),
        (f" {STANDARD} ,\n{OTHER}\n", (KEY, OTHER_KEY)),
    ],
)
def test_keys_are_read_in_their_order(text: str, keys: tuple[bytes, ...]) -> None:
    assert parse_sealing_keys(text) == keys


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "sealing key 1 has 0 bytes instead of 32"),
        (f"{STANDARD},", "sealing key 2 has 0 bytes instead of 32"),
        (OTHER[:-8], "sealing key 1 has 27 bytes instead of 32"),
        (f"{OTHER},{KEY.hex()}", "sealing key 2 has 48 bytes instead of 32"),
        (f"{OTHER},{STANDARD}!", "sealing key 2 is not base64"),
        (f"{OTHER} {STANDARD}", "sealing key 1 is not base64"),
        ("ключ", "sealing key 1 is not base64"),
        (f"{STANDARD},{OTHER},{URL_SAFE}", "sealing key 3 has the same id as sealing key 1"),
    ],
)
def test_what_is_no_key_is_named_by_its_place_and_never_quoted(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_sealing_keys(text)
    assert str(caught.value) == reason
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, KEY[:-1]], [KEY, OTHER_KEY, KEY]])
def test_a_sealer_takes_no_other_keys(keys: list[bytes]) -> None:
    with pytest.raises(ValueError):
        Sealer(keys, seconds=60)


def test_the_form_names_the_version_and_the_key() -> None:
    sealed = sealer(KEY, OTHER_KEY).seal("thought", tenant="t", model="m", now=0)
    version, key_id, body = sealed.split(".")
    assert version == "qs1"
    assert key_id == hashlib.sha256(KEY).hexdigest()[:KEY_ID_CHARACTERS]
    assert body.isascii()
    assert "=" not in body


@pytest.mark.parametrize("thought", ["", "x", "é" * MIB, "\U0010ffff" * MIB, "\ud83d" * 9, "\x00"])
def test_thoughts_of_any_length_and_kind_come_back(thought: str) -> None:
    sealed = sealer().seal(thought, tenant="t", model="m", now=0)
    assert len(sealed) <= MAX_SEALED_CHARACTERS
    assert sealer().open(sealed, tenant="t", model="m", now=0) == thought


def test_a_thought_whose_seal_could_not_be_opened_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="too long"):
        sealer().seal("x" * (MAX_THOUGHT_BYTES + 1), tenant="t", model="m", now=0)


def forged(body: bytes) -> str:
    key_id = hashlib.sha256(KEY).hexdigest()[:KEY_ID_CHARACTERS]
    return f"qs1.{key_id}.{base64.urlsafe_b64encode(body).decode().rstrip('=')}"


def test_longer_input_is_malformed() -> None:
    longest = sealer().seal("x" * MAX_THOUGHT_BYTES, tenant="t", model="m", now=0)
    assert len(longest) == MAX_SEALED_CHARACTERS
    raw = base64.urlsafe_b64decode(longest.rpartition(".")[2] + "==")
    assert reason_against(forged(bytes(len(raw))), sealer()) == "foreign"
    assert reason_against(forged(bytes(len(raw) + PAD_BYTES)), sealer()) == "malformed"


@pytest.mark.parametrize("size", [0, 1, 12, 28, 29, 28 + PAD_BYTES - 1, 28 + PAD_BYTES + 1])
def test_what_no_seal_is_as_long_as_is_malformed(size: int) -> None:
    assert reason_against(forged(bytes(size)), sealer()) == "malformed"
    assert reason_against(forged(bytes(28 + PAD_BYTES)), sealer()) == "foreign"


def test_no_two_seals_are_equal() -> None:
    one = sealer()
    assert len({one.seal("", tenant="t", model="m", now=0) for _ in range(1_000)}) == 1_000


def test_the_last_character_has_one_spelling() -> None:
    """Base64 leaves bits over at the end, and a lenient reader takes four characters for one."""
    for length in (0, 256, 512):  # as many bits are left over as there are kinds
        sealed = sealer().seal("x" * length, tenant="t", model="m", now=0)
        others = {chr(code) for code in range(128)} - {sealed[-1]}
        assert {reason_against(sealed[:-1] + last, sealer()) for last in others} <= {
            "malformed",
            "foreign",
        }


@pytest.mark.parametrize("suffix", ["=", "==", "\n", " ", "\x00", ".", "A"])
def test_nothing_can_be_added(suffix: str) -> None:
    sealed = sealer().seal("thought", tenant="t", model="m", now=0)
    assert reason_against(sealed + suffix, sealer()) == "malformed"
    assert reason_against(suffix + sealed, sealer()) == "malformed"


def test_every_single_change_of_a_character_breaks_it() -> None:
    sealed = sealer().seal("thought", tenant="t", model="m", now=0)
    for at, was in enumerate(sealed):
        for other in "Ab0-_.=+":
            if other != was:
                assert reason_against(sealed[:at] + other + sealed[at + 1 :], sealer())


def test_every_beginning_breaks_it() -> None:
    sealed = sealer().seal("thought", tenant="t", model="m", now=0)
    for end in range(len(sealed)):
        assert reason_against(sealed[:end], sealer())


def test_the_id_of_another_known_key_breaks_it() -> None:
    both = sealer(KEY, OTHER_KEY)
    sealed = both.seal("thought", tenant="t", model="m", now=0)
    version, _, body = sealed.split(".")
    swapped = hashlib.sha256(OTHER_KEY).hexdigest()[:KEY_ID_CHARACTERS]
    assert reason_against(f"{version}.{swapped}.{body}", both) == "foreign"


def test_a_key_that_is_gone_is_unknown() -> None:
    sealed = sealer(KEY).seal("thought", tenant="t", model="m", now=0)
    assert reason_against(sealed, sealer(OTHER_KEY)) == "unknown_key"


def test_another_version_is_malformed() -> None:
    sealed = sealer().seal("thought", tenant="t", model="m", now=0)
    assert reason_against(sealed.replace("qs1.", "qs2."), sealer()) == "malformed"


def test_the_expiry_is_that_of_its_making() -> None:
    """Not of the opener: a longer life set later revives nothing."""
    sealed = sealer(seconds=60).seal("thought", tenant="t", model="m", now=1_000.0)
    patient = sealer(seconds=86_400)
    assert patient.open(sealed, tenant="t", model="m", now=1_059.9) == "thought"
    assert reason_against(sealed, patient, now=1_060.0) == "expired"


def test_a_foreign_seal_does_not_tell_whether_it_has_expired() -> None:
    sealed = sealer().seal("thought", tenant="someone else", model="m", now=0)
    assert reason_against(sealed, sealer(), now=1e9) == "foreign"


def test_the_error_says_why_and_quotes_nothing() -> None:
    sealed = sealer().seal("the thought", tenant="t", model="m", now=0)
    with pytest.raises(SealBroken) as caught:
        sealer().open(sealed, tenant="t", model="m", now=1e9)
    assert str(caught.value) == "the sealed reasoning cannot be opened: expired"
    assert caught.value.args == (str(caught.value),)
