"""Metrics pages as the engines write them, and as nobody should."""

from hypothesis import given
from hypothesis import strategies as st

from app.upstream.telemetry import NOTHING_SAID, Telemetry, parse_metrics

# vLLM 0.32, shortened.
VLLM = b"""\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.79000000073e+09
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="528",cache_dtype="auto",enable_prefix_caching="True",engine="0",\
gpu_memory_utilization="0.92",kv_cache_max_concurrency="1.6",kv_cache_size_tokens="1720000",\
num_gpu_blocks="3258"} 1.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwythos"} 3.0
vllm:num_requests_waiting{engine="0",model_name="qwythos"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwythos",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="qwythos"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="qwythos"} 1.2e+06
vllm:prompt_tokens_created{engine="0",model_name="qwythos"} 1.79e+09
vllm:generation_tokens_total{engine="0",model_name="qwythos"} 4321.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="qwythos"} 0.0
"""
SGLANG = b"""\
sglang:prompt_tokens_total{model_name="qwythos"} 8.128902e+06
sglang:generation_tokens_total{model_name="qwythos"} 7.557572e+06
sglang:token_usage{engine_type="unified",model_name="qwythos",tp_rank="0"} 0.28
sglang:num_running_reqs{model_name="qwythos"} 161.0
sglang:num_queue_reqs{model_name="qwythos"} 2826.0
sglang:max_total_num_tokens{model_name="qwythos"} 471258.0
"""
LLAMACPP = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 12
llamacpp:tokens_predicted_total 34
llamacpp:requests_processing 1
llamacpp:requests_deferred 0
"""


def test_vllms_page_is_read() -> None:
    assert parse_metrics(VLLM) == Telemetry(
        capacity_tokens=1_720_000,
        running=3,
        waiting=2,
        kv_usage=0.25,
        prompt_tokens=1_200_000,
        generation_tokens=4321,
        started_at=1.79000000073e9,
    )


def test_sglangs_page_is_read() -> None:
    assert parse_metrics(SGLANG) == Telemetry(
        capacity_tokens=471_258,
        running=161,
        waiting=2826,
        kv_usage=0.28,
        prompt_tokens=8_128_902,
        generation_tokens=7_557_572,
    )


def test_llama_cpps_page_is_read() -> None:
    assert parse_metrics(LLAMACPP) == Telemetry(
        running=1, waiting=0, prompt_tokens=12, generation_tokens=34
    )


def test_engines_behind_one_address_are_added_up() -> None:
    page = b"""\
vllm:num_requests_running{engine="0"} 3
vllm:num_requests_running{engine="1"} 4
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.6
vllm:cache_config_info{engine="0",kv_cache_size_tokens="100"} 1
vllm:cache_config_info{engine="1",kv_cache_size_tokens="100"} 1
"""
    said = parse_metrics(page)
    assert (said.running, said.kv_usage, said.capacity_tokens) == (7, 0.4, 200)


def test_what_cannot_be_read_is_unknown_and_the_rest_is_not() -> None:
    page = b"""\
vllm:num_requests_running NaN
vllm:num_requests_waiting -3
vllm:kv_cache_usage_perc{broken 0.5
vllm:prompt_tokens_total +Inf
process_start_time_seconds yesterday
vllm:cache_config_info{kv_cache_size_tokens="None"} 1
vllm:generation_tokens_total{a="1"} 5 1790000000000
"""
    assert parse_metrics(page) == Telemetry(generation_tokens=5)


def test_a_line_that_was_cut_says_nothing() -> None:
    assert parse_metrics(b"vllm:num_requests_running 1") == NOTHING_SAID


def test_lines_may_end_as_on_windows() -> None:
    assert parse_metrics(b"vllm:num_requests_running 1\r\n").running == 1


def test_a_page_of_something_else_says_nothing() -> None:
    said = parse_metrics(b"process_start_time_seconds 5\npython_info 1\n")
    assert not said.says_anything
    assert parse_metrics(b"vllm:num_requests_running 0\n").says_anything


@given(st.binary(), st.binary())
def test_no_page_is_too_odd(before: bytes, after: bytes) -> None:
    line = b"\nvllm:num_requests_running 2\n"
    running = parse_metrics(before + line + after).running
    assert running is not None
    assert running >= 2
