"""Validators on the text of a match, and on any other text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.validators import VALIDATORS

digit_like = st.text(alphabet="0123456789 -.AXYZ٣٤²@:/=\"'", max_size=40)


@pytest.mark.parametrize("name", VALIDATORS)
@given(text=st.text(max_size=60) | digit_like)
def test_a_validator_answers_for_any_text(name: str, text: str) -> None:
    assert VALIDATORS[name](text) in (True, False)


@pytest.mark.parametrize("name", ["luhn", "payment-card"])
def test_a_card_needs_its_checksum(name: str) -> None:
    assert VALIDATORS[name]("4111 1111 1111 1111")
    assert not VALIDATORS[name]("4111 1111 1111 1112")


def test_a_card_needs_an_issuer_that_gives_out_such_numbers() -> None:
    assert VALIDATORS["luhn"]("9111 1111 1111 1110")
    assert not VALIDATORS["payment-card"]("9111 1111 1111 1110")
    assert not VALIDATORS["payment-card"]("0000 0000 0000 0000")
    assert VALIDATORS["payment-card"]("3782 822463 10005")
    assert not VALIDATORS["payment-card"]("41111111111111111116")


def test_an_account_number_needs_its_checksum_and_its_countrys_length() -> None:
    assert VALIDATORS["iban"]("GB29 NWBK 6016 1331 9268 19")
    assert not VALIDATORS["iban"]("GB29 NWBK 6016 1331 9268 18")
    assert not VALIDATORS["iban"]("GB29 NWBK 6016 1331 9268")


def test_the_label_before_a_number_does_not_matter() -> None:
    assert VALIDATORS["nl-bsn"]("BSN-nummer: 1112.22.333")
    assert VALIDATORS["us-ssn"]("SSN: 536904399")


def test_a_number_of_hardly_any_digits_is_nobodys() -> None:
    assert not VALIDATORS["nl-bsn"]("BSN 000000000")
    assert not VALIDATORS["tr-kimlik"]("TCKN 11111111110")


@pytest.mark.parametrize(
    "placeholder",
    ["sk-your-api-key-goes-here", "ghp_xxxxxxxxxxxxxxxxxxxx", "sk-ant-api03-example-key-00001a",
     "glpat-00000000000000000000"],
)  # fmt: skip
def test_a_placeholder_is_no_token(placeholder: str) -> None:
    assert not VALIDATORS["token"](placeholder)


def test_three_years_in_a_row_are_no_aadhaar_number() -> None:
    assert VALIDATORS["in-aadhaar"]("2341 2341 2346")
    years = [f"{a} {b} {c}" for a, b, c in zip(range(2001, 2023), range(2002, 2024),
             range(2003, 2025), strict=True)]  # fmt: skip
    assert not any(map(VALIDATORS["in-aadhaar"], years))


def test_a_path_to_a_repository_is_no_address() -> None:
    assert VALIDATORS["email-address"]("jane@acme.co.uk")
    assert not VALIDATORS["email-address"]("git@github.com")
    assert not VALIDATORS["email-address"]("getty@tty1.service")
