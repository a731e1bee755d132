"""The settings of the worker pool: how work is admitted to workers, and how long it waits.

`Settings` inherits them, so that their names in the environment are as any other's.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import NoDecode

from app.worker_settings import Worker, WorkerSettings


def _of_a_name(worker: WorkerSettings | None) -> WorkerSettings | None:
    if worker is not None and worker.url.scheme != "http":
        raise ValueError("must be http: certificates do not name the addresses of workers")
    return worker


class PoolSettings(BaseModel):
    model_config = ConfigDict(frozen=True)

    # -- admission to a worker
    # Of prompts that are being read on one worker: one that is as long as can be, and a tenth.
    # More would only wait there, where no other worker can take it.
    worker_prefill_tokens: int = Field(default=1_100_000, ge=1)
    # Four seconds of reading on one H100; from here on one prompt is felt by all others there.
    long_prefill_tokens: int = Field(default=32_768, ge=1)
    # vLLM's V1 engine ignores `--max-long-partial-prefills`: two at once take twice as long, both.
    long_prefills_per_worker: int = Field(default=1, ge=1)

    # Of the longest answer that a request may get, what is held for it from the start. Most answers
    # are far shorter; held in full, thirty chats with the default length would fill a worker.
    held_output_share: float = Field(default=0.25, ge=0, le=1)
    # What a worker says of its load is believed for three probes; then it is unknown.
    worker_report_seconds: float = Field(default=15.0, gt=0)

    # -- the queue for workers
    # Each holds its prompt in memory: a thousand of 100 KB are 100 MB.
    queue_requests: int = Field(default=1_000, ge=0)
    # Above the 156 to 255 s that a million tokens take on one H100, which one may have to stand
    # behind; below the 600 s after which SDKs give up.
    queue_seconds: float = Field(default=300.0, gt=0)

    # -- clients that leave, and come back
    # What a prompt must have cost a worker to be finished without its client, where the key has it
    # so: some 80,000 tokens on one H100. What is cheaper is read again.
    leave_min_prefill_seconds: float = Field(default=10.0, ge=0)
    # Of a running answer, what is kept for the same request coming again: ten times an answer of
    # the default length. One that is longer is asked for anew.
    replay_bytes: int = Field(default=1024 * 1024, ge=0)
    replays_bytes: int = Field(default=64 * 1024 * 1024, ge=0)  # of all that run, in one process

    # Of the requests that are with workers, those that may be second tries at once; one may always.
    retry_share: float = Field(default=0.1, ge=0, le=1)

    # -- the workers' health
    # A worker of which nothing was heard for so long, and that has nothing of ours, is asked for
    # one token: `/health` says 200 of a hung GPU, too.
    active_probe_seconds: float = Field(default=60.0, gt=0)
    active_probe_timeout_seconds: float = Field(default=30.0, gt=0)  # idle, it takes less than one
    ejection_faults: int = Field(default=5, ge=1)  # in a row; one may be the network's
    # Times the number of its ejections so far: a worker that is restarted takes a minute or more.
    ejection_seconds: float = Field(default=30.0, gt=0)
    ejection_max_seconds: float = Field(default=300.0, gt=0)
    # No probe answered and no byte came for so long: what has not begun there goes elsewhere. The
    # API server of vLLM is deaf for some 4 s while it tokenises a million tokens.
    silent_worker_seconds: float = Field(default=30.0, gt=0)
    # The longest answer, from its request to its end: 16,384 tokens at 5 a second.
    answer_seconds: float = Field(default=3600.0, gt=0)

    # -- workers that come and go, beside those of GATEWAY_WORKERS
    # A JSON or YAML list of the same form. Whatever it no longer names is drained.
    workers_file: Path | None = None
    workers_reload_seconds: float = Field(default=5.0, gt=0)  # a change acts within two of these
    # The URL of a name that stands for the addresses of all workers, as that of a headless service
    # does, or JSON of a worker with it: each address is then a worker as that one is.
    workers_dns: Annotated[Worker | None, NoDecode, AfterValidator(_of_a_name)] = None
    # Twice the time for which CoreDNS lets an answer be kept.
    workers_dns_seconds: float = Field(default=10.0, gt=0)
