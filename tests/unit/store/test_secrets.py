import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.known_secrets import KNOWN
from app.store.secrets import (
    digest_of,
    is_well_formed,
    mint_key_id,
    mint_secret,
    scrub,
    scrub_bytes,
    scrub_to,
)

PEPPER = b"pepper"


def test_a_minted_secret_has_a_fixed_form_and_passes_its_own_check() -> None:
    minted = mint_secret(PEPPER)
    assert re.fullmatch(r"sk-qw-[0-9A-Za-z]{49}", minted.secret)
    assert is_well_formed(minted.secret)
    assert minted.digest == digest_of(minted.secret, PEPPER)
    assert len(minted.digest) == 32


def test_no_secret_and_no_digest_shows_in_a_representation() -> None:
    minted = mint_secret(PEPPER)
    assert minted.secret not in repr(minted)
    assert repr(minted.digest) not in repr(minted)
    assert minted.hint == f"sk-qw-...{minted.secret[-4:]}"


def test_the_pepper_changes_the_digest() -> None:
    secret = mint_secret(PEPPER).secret
    assert digest_of(secret, b"one") != digest_of(secret, b"other")


def test_secrets_and_ids_are_not_repeated() -> None:
    assert len({mint_secret(PEPPER).secret for _ in range(200)}) == 200
    assert len({mint_key_id() for _ in range(200)}) == 200
    assert re.fullmatch(r"key_[0-9A-Za-z]{20}", mint_key_id())


@pytest.mark.parametrize("change", ["cut", "longer", "case", "prefix", "newline", "space"])
def test_a_damaged_secret_is_refused_by_its_form(change: str) -> None:
    secret = mint_secret(PEPPER).secret
    damaged = {
        "cut": secret[:-1],
        "longer": secret + "0",
        "case": secret[:6] + secret[6:].swapcase(),
        "prefix": secret.replace("sk-qw-", "sk-"),
        "newline": secret + "\n",
        "space": " " + secret,
    }[change]
    assert not is_well_formed(damaged)


@given(st.integers(min_value=6, max_value=54), st.sampled_from("0aZ"))
def test_one_wrong_character_anywhere_is_noticed(position: int, character: str) -> None:
    secret = mint_secret(PEPPER).secret
    changed = secret[:position] + character + secret[position + 1 :]
    assert is_well_formed(changed) == (changed == secret)


@given(st.text(max_size=200))
def test_no_text_makes_the_check_fail(text: str) -> None:
    assert not is_well_formed(text)


def test_a_secret_in_the_wrong_field_is_not_written_down() -> None:
    secret = mint_secret(b"pepper").secret
    assert scrub(f"model {secret}!") == "model sk-qw-***!"
    assert scrub("qwythos") == "qwythos"
    assert scrub_bytes(f"é {secret}!".encode()) == "é sk-qw-***!".encode()


PADDED = "a-pepper-of-32-bytes-in-base64-=="


@pytest.mark.parametrize("secret", [mint_secret(PEPPER).secret, PADDED, PADDED.rstrip("=")])
def test_no_half_of_a_secret_is_left_where_a_text_is_cut(secret: str) -> None:
    KNOWN.add(PADDED)
    for before in range(30):
        kept = scrub_to("x" * before + " " + secret + " " + "y" * 1_000, 20)
        assert len(kept) == 20
        assert secret[7:10] not in kept


def test_no_half_of_a_secret_moves_up_where_others_were_masked_before_it() -> None:
    KNOWN.add(PADDED)
    secret = mint_secret(PEPPER).secret
    assert scrub_to(" ".join([PADDED] * 8 + [secret]), 40) == " ".join(["***"] * 8 + ["sk-qw-**"])
