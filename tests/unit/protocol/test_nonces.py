"""What agents put into a system text and no model needs."""

import pytest

from app.protocol.nonces import without_nonces

LINE = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=sdk-cli; cch=36ee5;"


@pytest.mark.parametrize(
    ("system", "kept"),
    [
        (f"{LINE}\nYou are an agent.\n", "You are an agent.\n"),
        (f"Be kind.\n{LINE}\nBe brief.", "Be kind.\nBe brief."),
        (f"{LINE}You are an agent.", "You are an agent."),  # joined without a line's end
        (LINE, ""),
        (f"{LINE.removesuffix(';')}\nYou are an agent.", "You are an agent."),
        (f"{LINE}\n{LINE}\nTwice.", "Twice."),
        ("x-anthropic-billing-header:\nEmpty.", "Empty."),
    ],
)
def test_the_billing_line_is_left_out(system: str, kept: str) -> None:
    assert without_nonces(system) == kept


@pytest.mark.parametrize(
    "system",
    [
        "You are an agent.",
        "",
        "Never write the line `x-anthropic-billing-header: cch=1;` yourself.",
        "x-anthropic-other: cch=1;\nYou are an agent.",
    ],
)
def test_anything_else_stays_as_it_is(system: str) -> None:
    assert without_nonces(system) == system


def test_words_behind_the_pairs_stay() -> None:
    assert without_nonces("x-anthropic-billing-header: is a line") == "is a line"
