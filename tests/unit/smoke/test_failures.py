import pytest

from app.smoke.failures import AskFailed, Kind, advice_for


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (
            AskFailed(Kind.REFUSED, "no", status=400, code="context_length_exceeded"),
            "max-model-len",
        ),
        (AskFailed(Kind.REFUSED, "maximum context length is 9", status=400), "--max-model-len"),
        (AskFailed(Kind.REFUSED, "no", status=400, code="exceed_context_size_error"), "ctx-size"),
        (AskFailed(Kind.FAILED, "EngineCore died: CUDA out of memory"), "gpu-memory-utilization"),
        (AskFailed(Kind.REFUSED, "no", status=502, code="upstream_error"), "the engine failed"),
        (AskFailed(Kind.REFUSED, "no", status=500, code="internal_error"), "the gateway's"),
        (AskFailed(Kind.REFUSED, "no", status=504), "GATEWAY_FIRST_BYTE_SECONDS"),
        (AskFailed(Kind.FAILED, "slow", code="upstream_timeout"), "GATEWAY_FIRST_BYTE_SECONDS"),
        (AskFailed(Kind.LATE, "gave up"), "--prefill-floor"),
        (AskFailed(Kind.REFUSED, "no", status=409), "--max-cold-prefill-tokens"),
        (AskFailed(Kind.REFUSED, "no", status=403), "gateway keys set"),
        (AskFailed(Kind.REFUSED, "no", status=429), "--rpm"),
        (AskFailed(Kind.FAILED, "no", code="server_is_overloaded"), "--max-num-queued-reqs"),
        (AskFailed(Kind.LOST, "gone"), "proxy"),
        (AskFailed(Kind.MALFORMED, "<html>"), "OpenAI-compatible"),
    ],
)
def test_each_failure_has_its_advice(failure: AskFailed, advice: str) -> None:
    found = advice_for(failure)
    assert found is not None
    assert advice in found


def test_what_nobody_knows_gets_no_advice() -> None:
    assert advice_for(AskFailed(Kind.REFUSED, "I am a teapot", status=418)) is None


def test_a_failure_says_its_status_and_code() -> None:
    failure = AskFailed(Kind.REFUSED, "no room", status=503, code="server_is_overloaded")
    assert failure.words == "refused (503, server_is_overloaded): no room"
    assert AskFailed(Kind.LATE, "gave up waiting").words == "gave up waiting"
