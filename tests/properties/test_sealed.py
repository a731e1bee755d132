"""Sealed reasoning: it opens whole, for whom it was made, and otherwise not at all."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.sealed import PAD_BYTES, SealBroken, Sealer, key_id

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SECONDS = 60.0
SEALER = Sealer([KEY], seconds=SECONDS)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

anything = st.characters(codec=None)  # lone surrogates too
thoughts = st.text(anything, max_size=600)
names = st.text(anything, max_size=12)
times = st.floats(0, 1e10)


def seal(thought: str = "thought", sealer: Sealer = SEALER, **bound: Any) -> str:
    return sealer.seal(thought, **{"tenant": "t", "model": "m", "now": 0.0, **bound})


def reason_against(sealed: str, sealer: Sealer = SEALER, **bound: Any) -> str:
    """Why it does not open. Fails where it does."""
    with pytest.raises(SealBroken) as caught:
        sealer.open(sealed, **{"tenant": "t", "model": "m", "now": 0.0, **bound})
    return caught.value.reason


@given(thoughts, names, names, times)
def test_a_seal_opens_to_the_thought(thought: str, tenant: str, model: str, now: float) -> None:
    sealed = SEALER.seal(thought, tenant=tenant, model=model, now=now)
    assert SEALER.open(sealed, tenant=tenant, model=model, now=now) == thought
    assert SEALER.open(sealed, tenant=tenant, model=model, now=now + SECONDS / 2) == thought


@given(thoughts, names, names, names, names)
def test_it_opens_for_no_other_tenant_or_model(
    thought: str, tenant: str, model: str, other_tenant: str, other_model: str
) -> None:
    sealed = SEALER.seal(thought, tenant=tenant, model=model, now=0)
    if (tenant, model) != (other_tenant, other_model):
        assert reason_against(sealed, tenant=other_tenant, model=other_model) == "foreign"


@given(names, names, st.integers(0, 24))
def test_where_the_tenant_ends_and_the_model_begins_counts(
    tenant: str, model: str, border: int
) -> None:
    both = tenant + model
    border %= len(both) + 1
    if border != len(tenant):
        sealed = seal(tenant=tenant, model=model)
        assert reason_against(sealed, tenant=both[:border], model=both[border:]) == "foreign"


@given(thoughts, st.integers(0), anything)
def test_no_other_character_can_stand_anywhere(thought: str, at: int, character: str) -> None:
    sealed = seal(thought)
    at %= len(sealed)
    if character != sealed[at]:
        assert reason_against(sealed[:at] + character + sealed[at + 1 :])


@given(thoughts, st.integers(0), st.sampled_from(ALPHABET))
def test_no_other_character_of_the_alphabet_can(thought: str, at: int, character: str) -> None:
    sealed = seal(thought)
    at %= len(sealed)
    if character != sealed[at]:
        assert reason_against(sealed[:at] + character + sealed[at + 1 :])


@given(thoughts, st.integers(0), st.integers(1, 255))
def test_no_byte_of_nonce_ciphertext_and_tag_can_be_another(
    thought: str, at: int, flip: int
) -> None:
    beginning, _, body = seal(thought).rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(body + "=="))
    raw[at % len(raw)] ^= flip
    changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert reason_against(f"{beginning}.{changed}") == "foreign"


@given(thoughts, st.integers(0))
def test_a_part_of_it_opens_to_nothing(thought: str, at: int) -> None:
    sealed = seal(thought)
    at %= len(sealed)
    assert reason_against(sealed[:at]) in {"malformed", "foreign"}
    if at:
        assert reason_against(sealed[at:]) == "malformed"


@given(thoughts, thoughts)
def test_two_together_open_to_nothing(one: str, other: str) -> None:
    first, second = seal(one), seal(other)
    assert reason_against(first + second) == "malformed"
    assert reason_against(f"{first}.{second}") == "malformed"
    assert reason_against(first + second.rpartition(".")[2]) in {"malformed", "foreign"}


@given(st.text(anything, max_size=2_000))
def test_what_is_no_seal_is_malformed(text: str) -> None:
    assert reason_against(text) == "malformed"
    assert reason_against(f"qs1.{key_id(KEY)}.{text}") in {"malformed", "foreign"}


@given(thoughts, times, st.floats(0, 1e6))
def test_it_expires(thought: str, now: float, later: float) -> None:
    sealed = seal(thought, now=now)
    assert reason_against(sealed, now=now + SECONDS + 1 + later) == "expired"


@given(thoughts, thoughts)
def test_its_length_tells_the_thoughts_to_256_bytes(one: str, other: str) -> None:
    def blocks(thought: str) -> int:
        return (12 + len(thought.encode("utf-8", "surrogatepass")) - 1) // PAD_BYTES

    assert (len(seal(one)) == len(seal(other))) == (blocks(one) == blocks(other))


@given(st.text(ALPHABET, min_size=4, max_size=600), names, names)
def test_neither_the_thought_nor_whom_it_is_for_stands_in_it(
    thought: str, tenant: str, model: str
) -> None:
    sealed = SEALER.seal(thought, tenant=f"tenant{tenant}", model=f"model{model}", now=0)
    _, _, body = sealed.rpartition(".")
    raw = base64.urlsafe_b64decode(body + "==")
    for secret in (thought, "tenant", "model"):
        for spelled in (secret.encode(), base64.urlsafe_b64encode(secret.encode()).rstrip(b"=")):
            if len(spelled) >= 6:  # fewer may stand there by chance
                assert spelled not in raw
                assert spelled.decode() not in sealed


@given(thoughts)
def test_after_a_rotation_old_seals_open_and_new_ones_are_under_the_new_key(thought: str) -> None:
    rotated = Sealer([OTHER_KEY, KEY], seconds=SECONDS)
    only_new = Sealer([OTHER_KEY], seconds=SECONDS)
    assert rotated.open(seal(thought), tenant="t", model="m", now=0) == thought
    assert only_new.open(seal(thought, rotated), tenant="t", model="m", now=0) == thought
    assert reason_against(seal(thought), only_new) == "unknown_key"
