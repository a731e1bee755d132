import base64

import pytest

from app.audit.checkpoints.signing import (
    derived_signing_keys,
    is_signed,
    parse_public_key,
    parse_signing_keys,
)

FIRST, SECOND = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def test_the_first_key_signs_and_all_of_them_verify() -> None:
    old, rotated = parse_signing_keys(FIRST), parse_signing_keys(f"{SECOND}, {FIRST}")

    signature = old.sign(b"message")

    assert rotated.public_key != old.public_key
    assert old.public_key in rotated.public_keys
    assert is_signed(b"message", signature, old.public_key)
    assert not is_signed(b"message", signature, rotated.public_key)


def test_another_message_is_not_signed() -> None:
    keys = parse_signing_keys(FIRST)

    assert not is_signed(b"massage", keys.sign(b"message"), keys.public_key)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "signing key 1 has 0 bytes"),
        ("not base64!", "signing key 1 is not base64"),
        (f"{FIRST},{FIRST[:8]}", "signing key 2 has 6 bytes"),
        (f"{FIRST},{FIRST}", "signing key 2 is signing key 1 again"),
    ],
)
def test_a_setting_that_is_no_key_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_signing_keys(text)

    assert FIRST not in str(refused.value)


def test_a_pepper_gives_the_same_key_everywhere_and_another_pepper_another() -> None:
    here, there = derived_signing_keys(b"pepper"), derived_signing_keys(b"pepper")

    assert here.public_key == there.public_key
    assert here.public_key != derived_signing_keys(b"salt").public_key


def test_a_derived_key_stays_what_it_is() -> None:
    # Whoever changes the derivation makes every checkpoint that was ever signed look forged.
    assert derived_signing_keys(b"pepper").public_key == (
        "92e5a3c1c9bef4b02f2b1c4cf34b1cdbc8cc4b592e8236810e6a0070a3008c20"
    )


def test_keys_do_not_show_themselves() -> None:
    shown = repr(parse_signing_keys(FIRST))

    assert FIRST not in shown
    assert "01" * 32 not in shown
    assert "rivate" not in shown


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "00" * 33])
def test_a_text_that_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal digits"):
        parse_public_key(text)


def test_a_public_key_is_read_in_either_case() -> None:
    public_key = parse_signing_keys(FIRST).public_key

    assert parse_public_key(f" {public_key.upper()}\n") == public_key
