"""How many tokens a prompt has, before and after workers have told."""

import pytest

from app.protocol.token_estimate import (
    MESSAGE_TOKENS,
    TOOLS_TOKENS,
    Script,
    TextProfile,
    TokenEstimates,
    profile_of,
)
from tests.support.prompts import WORDS, text_of

PROSE = "A gateway stands before the model and lets nobody through whom it does not know. "


def profile(text: str) -> TextProfile:
    return profile_of(text_of(text))


def estimates() -> TokenEstimates:
    return TokenEstimates(max_keys=100)


@pytest.mark.parametrize("script", Script)
@pytest.mark.parametrize("words", [40, 40_000])
def test_a_texts_script_is_seen(script: Script, words: int) -> None:
    assert profile(f"{WORDS[script]} " * words).script is script


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Слово за слово", Script.CYRILLIC),
        ("Ένα κείμενο στα ελληνικά", Script.CYRILLIC),
        ("טקסט בעברית", Script.ARABIC),
        ("한국어로 쓴 글", Script.CJK),
        ("ข้อความภาษาไทย", Script.OTHER),
        ("Một văn bản bằng tiếng Việt", Script.LATIN),
        ("Ein Text mit Übermaß an Größe", Script.LATIN),
        ("🎉🎈🎊🎁🎂🍰", Script.OTHER),
        ("", Script.LATIN),
        ("def f(x):\n    return {'a': x}", Script.LATIN),
    ],
)
def test_the_script_of_most_bytes_counts(text: str, script: Script) -> None:
    assert profile(text * 20).script is script


# Counted with Qwen's published vocabulary of 151,643 tokens, whole documents each.
@pytest.mark.parametrize(
    ("text", "bytes_per_token"),
    [
        (PROSE, 4.8),
        ("Документ содержит описание настроек и их значений по умолчанию. ", 4.3),
        ("该文档包含设置的说明及其默认值。", 3.6),
        ("문서에는 설정에 대한 설명과 기본값이 포함되어 있습니다. ", 3.3),
        ('{"id": 17, "price": 23.29, "sold": 118, "left": 4}, ', 1.8),
        ("2026-11-30T01:15:05.123Z INFO id=req_9f86d081884c7d65 status=200 ms=3.1\n", 1.6),
        ("lAQzNrI0yvBx7KcPqWm3TdFhGjUeSaXoRbVnLiYtZkHwDfCgJpMsEuOa", 1.4),  # as base64 is
    ],
)
def test_the_prior_is_within_a_half_of_what_is_typical(text: str, bytes_per_token: float) -> None:
    typical = len((text * 100).encode()) / bytes_per_token
    assert typical / 1.5 < estimates().estimate("key", profile(text * 100)) < typical * 1.5


def test_a_mixture_is_estimated_as_one() -> None:
    cyrillic = "слово " * 3_000
    digits = "1234567890" * 1_000
    apart = profile(cyrillic).text_tokens + profile(digits).text_tokens
    assert profile(cyrillic + digits).text_tokens == pytest.approx(apart, rel=0.2)


def test_the_template_counts_for_each_message_and_for_tools() -> None:
    one = profile_of(text_of("Hi"))
    three = profile_of(text_of("Hi", "Hi", "Hi"))
    assert three.template_tokens - one.template_tokens == 2 * MESSAGE_TOKENS
    tools = profile_of(text_of("Hi", tools=[{"type": "function", "function": {"name": "f"}}]))
    assert tools.template_tokens - one.template_tokens == TOOLS_TOKENS


def test_a_keys_estimate_follows_what_workers_report() -> None:
    known, prompt = estimates(), profile("слово " * 1_000)
    before = known.estimate("russian", prompt)
    for _ in range(2):
        known.learn("russian", prompt, before * 2)
    assert known.estimate("russian", prompt) == pytest.approx(before * 2, rel=0.01)
    assert known.estimate("other", prompt) == before
    english = profile(PROSE * 100)
    assert known.estimate("russian", english) == known.estimate("other", english)


def test_the_first_report_counts_half() -> None:
    known, prompt = estimates(), profile(PROSE * 100)
    before = known.estimate("key", prompt)
    known.learn("key", prompt, before * 2)
    assert known.estimate("key", prompt) == pytest.approx(before * 2**0.5, rel=0.01)


@pytest.mark.parametrize("odd", [1, 10**9])
def test_one_odd_prompt_changes_little(odd: int) -> None:
    known, prompt = estimates(), profile(PROSE * 100)
    usual = known.estimate("key", prompt)
    for tokens in (usual, usual, odd, usual):
        known.learn("key", prompt, tokens)
    assert known.estimate("key", prompt) == pytest.approx(usual, rel=0.01)


def test_a_key_whose_prompts_change_is_followed() -> None:
    known, prompt = estimates(), profile(PROSE * 100)
    usual = known.estimate("key", prompt)
    for _ in range(100):
        known.learn("key", prompt, usual)
    for _ in range(5):
        known.learn("key", prompt, usual * 2)
    assert known.estimate("key", prompt) == pytest.approx(usual * 2, rel=0.01)


def test_a_prompt_that_is_too_short_to_tell_teaches_nothing() -> None:
    known, long = estimates(), profile(PROSE * 100)
    before = known.estimate("key", long)
    for _ in range(10):
        known.learn("key", profile("Hello!"), 400)
    assert known.estimate("key", long) == before
    assert known.keys == 0


def test_keys_that_were_not_seen_for_longest_are_forgotten() -> None:
    known, prompt = TokenEstimates(max_keys=2), profile(PROSE * 100)
    before = known.estimate("any", prompt)
    for key in ("a", "b", "a", "c"):
        known.learn(key, prompt, before * 3)
    assert known.keys == 2
    assert known.estimate("b", prompt) == before
    assert known.estimate("a", prompt) > before
