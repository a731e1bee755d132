"""What a worker says of itself on its `/metrics`: vLLM's, SGLang's and llama.cpp's names. No I/O.

The page is Prometheus text of a thousand lines, of which ten matter. Whatever is missing, broken or
of another engine is unknown, and never a reason to do without the worker.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

# vLLM's has some 100 KB; one with many models or adapters is larger.
MAX_PAGE_BYTES = 2 * 1024 * 1024

_RUNNING = (
    b"vllm:num_requests_running",
    b"sglang:num_running_reqs",
    b"llamacpp:requests_processing",
)
_WAITING = (
    b"vllm:num_requests_waiting",
    b"sglang:num_queue_reqs",
    b"llamacpp:requests_deferred",
)
_KV_USAGE = (b"vllm:kv_cache_usage_perc", b"sglang:token_usage", b"llamacpp:kv_cache_usage_ratio")
_PROMPT_TOKENS = (
    b"vllm:prompt_tokens_total",
    b"sglang:prompt_tokens_total",
    b"llamacpp:prompt_tokens_total",
)
_GENERATION_TOKENS = (
    b"vllm:generation_tokens_total",
    b"sglang:generation_tokens_total",
    b"llamacpp:tokens_predicted_total",
)
_CACHE_CONFIG = b"vllm:cache_config_info"  # all it says stands in labels
_CAPACITY_TOKENS = (b"sglang:max_total_num_tokens",)
# prometheus_client's own, of the process that serves the page: another one was started anew.
_STARTED_AT = (b"process_start_time_seconds",)

_WANTED = (
    *_RUNNING, *_WAITING, *_KV_USAGE, *_PROMPT_TOKENS, *_GENERATION_TOKENS, _CACHE_CONFIG,
    *_CAPACITY_TOKENS, *_STARTED_AT,
)  # fmt: skip
# Only lines that are wanted are looked at in Python. A value may be followed by a time.
_SAMPLE = re.compile(
    rb"^(%s)(\{[^\n]*\})?[ \t]+([^\s]+)[^\n]*\n" % b"|".join(map(re.escape, _WANTED)), re.MULTILINE
)
_LABEL = re.compile(rb'([a-z_]+)="([^"\\\n]*)"')


@dataclass(frozen=True, slots=True)
class Telemetry:
    """None: the worker does not say. Counts of several engines behind one address are added up."""

    capacity_tokens: int | None = None  # that its KV cache holds
    running: int | None = None  # requests
    waiting: int | None = None
    kv_usage: float | None = None  # 0 to 1
    prompt_tokens: int | None = None  # since its start
    generation_tokens: int | None = None
    started_at: float | None = None  # seconds since the epoch, by its own clock

    @property
    def says_anything(self) -> bool:
        return self.running is not None or self.generation_tokens is not None


NOTHING_SAID = Telemetry()


def parse_metrics(page: bytes) -> Telemetry:
    """A whole page, or as much of it as there is; what cannot be read is left out."""
    samples: dict[bytes, list[float]] = {}
    capacity: list[float] = []
    for name, labels, text in _SAMPLE.findall(page):
        if name == _CACHE_CONFIG:
            capacity += _capacity(labels)
        elif (value := _number(text)) is not None:
            samples.setdefault(name, []).append(value)
    capacity += _of(samples, _CAPACITY_TOKENS)
    usage = _of(samples, _KV_USAGE)
    started = _of(samples, _STARTED_AT)
    return Telemetry(
        capacity_tokens=_total(capacity) or None,
        running=_total(_of(samples, _RUNNING)),
        waiting=_total(_of(samples, _WAITING)),
        kv_usage=min(1.0, sum(usage) / len(usage)) if usage else None,
        prompt_tokens=_total(_of(samples, _PROMPT_TOKENS)),
        generation_tokens=_total(_of(samples, _GENERATION_TOKENS)),
        started_at=max(started) if started else None,
    )


def _capacity(labels: bytes) -> list[float]:
    """vLLM 0.32 says the tokens; older ones only blocks, which on a hybrid model are none."""
    said = dict(_LABEL.findall(labels))
    value = _number(said.get(b"kv_cache_size_tokens", b""))
    return [] if value is None else [value]


def _of(samples: dict[bytes, list[float]], names: Sequence[bytes]) -> list[float]:
    return [value for name in names for value in samples.get(name, ())]


def _total(values: Sequence[float]) -> int | None:
    return int(sum(values)) if values else None


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
