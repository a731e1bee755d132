from app.smoke.rungs import Rung, rungs

MILLION = 1_048_576


def walked(first: int, context: int | None, most: int = MILLION) -> dict[str, int | None]:
    return {rung.name: rung.prompt_tokens for rung in rungs(first, context, most, 4_096)}


def test_a_context_of_unknown_length_is_walked_to_a_million() -> None:
    assert walked(32_768, None) == {
        "32k": 32_768,
        "64k": 65_536,
        "128k": 131_072,
        "256k": 262_144,
        "512k": 524_288,
        "1M": MILLION,
    }


def test_a_rung_that_fills_the_context_leaves_room_for_the_answer() -> None:
    """1,010,000 is what the model is served with."""
    top = walked(32_768, 1_010_000)["1M"]
    assert top is not None
    assert 950_000 < top < 1_010_000 - 4_096
    quarter = walked(32_768, 262_144)["256k"]
    assert quarter is not None
    assert 250_000 < quarter < 262_144 - 4_096


def test_rungs_beyond_the_context_are_skipped_with_the_reason() -> None:
    found = list(rungs(65_536, 140_000, MILLION, 4_096))
    assert found[1] == Rung(131_072, 131_072)
    assert [rung.prompt_tokens for rung in found[2:]] == [None, None, None]
    assert {rung.reason for rung in found[2:]} == {"beyond the context of 140,000 tokens"}


def test_rungs_beyond_what_is_allowed_are_skipped_with_the_reason() -> None:
    found = list(rungs(32_768, 1_010_000, 65_536, 4_096))
    assert [rung.prompt_tokens for rung in found[:2]] == [32_768, 65_536]
    assert {rung.reason for rung in found[2:]} == {"beyond --max-context 65,536"}
