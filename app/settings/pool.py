"""The settings of the worker pool: how work is admitted to workers, and how long it waits."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from app.settings.forms import MIB, Theme
from app.settings.worker import Worker, WorkerSettings


def _of_a_name(worker: WorkerSettings) -> WorkerSettings:
    if worker.url.scheme != "http":
        raise ValueError("must be http: certificates do not name the addresses of workers")
    return worker


def _one_or_several(value: object) -> object:
    """A list, or JSON of one; else the only one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("is not valid JSON") from None
    return value if isinstance(value, list | tuple) else [value]


class AdmissionSettings(Theme):
    """Admission to a worker

    See [Long prompts](long-prompts.md).
    """

    worker_prefill_tokens: int = Field(default=1_100_000, ge=1)
    """Of prompts of one process that are being read on one worker: one that is as long as can be,
    and a tenth. More would only wait there, where no other worker can take it."""

    long_prefill_tokens: int = Field(default=32_768, ge=1)
    """From which length a prompt that has to be read is a long one: four seconds of reading on one
    H100. From here on one prompt is felt by all others there."""

    long_prefills_per_worker: int = Field(default=1, ge=1)
    """How many long prompts of one process one worker reads at once. vLLM's V1 engine ignores
    `--max-long-partial-prefills`: two at once take twice as long, both. Other processes count for
    themselves: from 256k tokens on a prompt goes where they have nothing, if there is such a
    worker."""

    held_output_share: float = Field(default=0.25, ge=0, le=1)
    """Of the longest answer that a request may get, what is held for it from the start. Most
    answers are far shorter; held in full, thirty chats with the default length would fill a
    worker."""

    worker_report_seconds: float = Field(default=15.0, gt=0)
    """How long what a worker says of its load is believed: for three probes. Then it is
    unknown."""


class QueueSettings(Theme):
    """The queue for workers"""

    queue_requests: int = Field(default=1_000, ge=0)
    """Requests that may wait for a worker, in each process; one more is refused with 503
    `queue_full`. Each holds its prompt in memory: a thousand of 100 KB are 100 MB."""

    queue_seconds: float = Field(default=300.0, gt=0)
    """How long each may wait; then 503 `queue_timeout`. Above the 156 to 255 s that a million
    tokens take on one H100, which one may have to stand behind; below the 600 s after which SDKs
    give up."""

    retry_share: float = Field(default=0.1, ge=0, le=1)
    """Of the requests that are with workers, those that may be second tries at once; one may
    always. More would turn a pool's trouble into twice its load."""


class LeavingSettings(Theme):
    """Clients that leave, and come back"""

    leave_min_prefill_seconds: float = Field(default=10.0, ge=0)
    """What a prompt must have cost a worker to be finished without its client, where the key has it
    so: some 80,000 tokens on one H100. What is cheaper is read again."""

    replay_bytes: int = Field(default=1 * MIB, ge=0)
    """Of a running answer, what is kept for the same request coming again: ten times an answer of
    the default length. One that is longer is asked for anew."""

    replays_bytes: int = Field(default=64 * MIB, ge=0)
    """Of all that run, in one process."""


class HealthSettings(Theme):
    """The health of workers"""

    active_probe_seconds: float = Field(default=60.0, gt=0)
    """A worker of which nothing was heard for so long, and that has nothing of ours, is asked for
    one token: `/health` says 200 of a hung GPU, too."""

    active_probe_timeout_seconds: float = Field(default=30.0, gt=0)
    """What that token may take: idle, a worker needs less than a second."""

    ejection_faults: int = Field(default=5, ge=1)
    """Faults in a row after which a worker gets nothing new for a while; one may be the
    network's."""

    ejection_seconds: float = Field(default=30.0, gt=0)
    """For how long, times the number of its ejections so far: a worker that is restarted takes a
    minute or more."""

    ejection_max_seconds: float = Field(default=300.0, gt=0)
    """The longest ejection: then it is tried again, however often it failed."""

    silent_worker_seconds: float = Field(default=30.0, gt=0)
    """No probe answered and no byte came for so long: what has not begun there goes elsewhere. The
    API server of vLLM is deaf for some 4 s while it tokenises a million tokens."""

    answer_seconds: float = Field(default=3600.0, gt=0)
    """The longest answer, from its request to its end: 16,384 tokens at 5 a second."""


class MembershipSettings(Theme):
    """Workers that come and go

    Beside those of `GATEWAY_WORKERS`; see [Workers](workers.md).
    """

    workers_file: Path | None = None
    """A JSON or YAML list of workers that is followed: whatever it no longer names is drained."""

    workers_reload_seconds: float = Field(default=5.0, gt=0)
    """How often it is looked at: a change acts within two of these."""

    workers_dns: Annotated[
        tuple[Annotated[Worker, AfterValidator(_of_a_name)], ...],
        NoDecode,
        BeforeValidator(_one_or_several),
    ] = ()
    """The URL of a name that stands for the addresses of all workers, as that of a headless service
    does, or JSON of a worker with it: each address is then a worker as that one is. A list of these
    where workers differ: a name for each pool."""

    workers_dns_seconds: float = Field(default=10.0, gt=0)
    """How often they are asked for: twice the time for which CoreDNS lets an answer be kept."""


class PoolSettings(
    AdmissionSettings, QueueSettings, LeavingSettings, HealthSettings, MembershipSettings
):
    """All of the pool's."""
