from app.embedded.thinking import (
    QUOTED_CHARACTERS,
    chat_template,
    request_fields,
    sampling_defaults,
)


def test_the_template_cuts_past_thoughts_as_the_grammar_cuts_new_ones() -> None:
    assert f"[:{QUOTED_CHARACTERS}]" in chat_template()
    assert f"{{1,{QUOTED_CHARACTERS}}}" in request_fields()["grammar"]


def test_the_template_opens_the_thought_and_the_grammar_closes_it() -> None:
    assert "assistant\\n<think>\\n" in chat_template()
    assert "<think>" not in request_fields()["grammar"]
    assert "</think>" in request_fields()["grammar"]


def test_what_a_client_may_choose_is_never_overridden() -> None:
    assert not sampling_defaults().keys() & request_fields().keys()
    assert not {"temperature", "top_p", "seed", "max_tokens"} & request_fields().keys()
