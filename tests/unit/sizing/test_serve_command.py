import shlex

from app.sizing.cautions import cautions
from app.sizing.gpus import GPUS, described
from app.sizing.model import KvType
from app.sizing.plan import Deployment, Plan, calculate
from app.sizing.serve_command import bounds, serve_command

MILLION = 1_048_576
SAMPLING = {"temperature": 0.6, "top_k": 20}


def planned(name: str, ranks: int, context_tokens: int, kv: KvType = KvType.BF16) -> Plan:
    return calculate(Deployment(GPUS[name], ranks, kv, context_tokens))


def words(plan: Plan) -> list[str]:
    parts = serve_command(plan, model="owner/model", served_name="short", sampling=SAMPLING)
    return shlex.split(" ".join(parts))


def value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_the_line_of_a_short_pool() -> None:
    line = words(planned("h100", 1, 262_144))
    assert line[:3] == ["vllm", "serve", "owner/model"]
    assert value(line, "--max-model-len") == "262144"
    assert value(line, "--max-num-seqs") == "47"  # of 32k
    assert value(line, "--override-generation-config") == '{"temperature":0.6,"top_k":20}'
    assert "--tensor-parallel-size" not in line
    assert "--kv-cache-dtype" not in line
    assert "--speculative-config" not in line


def test_the_line_of_a_long_pool() -> None:
    line = words(planned("h100", 4, MILLION, KvType.FP8))
    assert value(line, "--tensor-parallel-size") == "4"
    assert value(line, "--max-model-len") == str(MILLION)
    assert value(line, "--max-num-seqs") == "8"
    assert value(line, "--kv-cache-dtype") == "fp8"


def test_requests_that_run_count_against_the_queue() -> None:
    limits = bounds(planned("h100", 4, MILLION))
    assert limits.queued_requests > limits.sequences


def test_no_more_is_queued_than_can_be_read_in_two_minutes() -> None:
    plan = planned("a100", 8, MILLION)  # 145 s for a million
    queued = bounds(plan).queued_tokens
    assert queued is not None
    assert 800_000 < queued < MILLION * 120 / 144


def test_of_a_gpu_of_unknown_speed_no_queue_is_sized() -> None:
    plan = calculate(Deployment(described(80, None, None), 1, KvType.BF16, 262_144))
    assert "--max-num-queued-tokens" not in words(plan)


def test_at_least_one_sequence_runs() -> None:
    assert bounds(planned("h100", 1, MILLION)).sequences == 1


def about(plan: Plan) -> str:
    return "\n".join(cautions(plan))


def test_what_would_not_start_is_said_with_what_would() -> None:
    plan = planned("rtx4090", 1, MILLION)
    first = cautions(plan)[0]
    assert "1,048,576 tokens does not fit" in first
    assert f"{plan.pool.longest_tokens:,}" in first
    assert "no room for a single" in about(
        calculate(Deployment(described(12, None, None), 1, KvType.BF16, 4_096))
    )


def test_cautions_are_those_that_apply() -> None:
    plain = about(planned("h100", 1, 131_072))
    for words_of_it in ("untested", "copies", "peer-to-peer", "long prompts", "first token"):
        assert words_of_it not in plain
    assert "a guess" in plain
    assert "fp8 keys and values are untested" in about(planned("h100", 1, 131_072, KvType.FP8))
    assert "8 ranks keep copies" in about(planned("h100", 8, 131_072))
    assert "no peer-to-peer" in about(planned("rtx4090", 2, 131_072))
    assert "no peer-to-peer" not in about(planned("rtx4090", 1, 32_768))
    assert "long prompts" in about(planned("h200", 1, MILLION))
    assert "may take 255 s to its first token" in about(planned("h200", 1, MILLION))
    own = calculate(Deployment(described(80, 500, None), 1, KvType.BF16, 131_072))
    assert "Nothing is known of this GPU" in about(own)
