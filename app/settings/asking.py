"""How workers are asked, and how long each part of an answer may take."""

from enum import StrEnum

from pydantic import Field

from app.settings.forms import Theme


class WorkerCheck(StrEnum):
    """What a worker's failing of the check means."""

    REFUSE = "refuse"  # it is not ready
    WARN = "warn"
    OFF = "off"  # nothing is asked


class AskingSettings(Theme):
    """Asking workers"""

    connect_seconds: float = Field(default=2.0, gt=0)
    """How long a connection to a worker may take: they are near."""

    worker_idle_seconds: float = Field(default=3.5, gt=0, lt=5)
    """After which an idle connection is closed. vLLM closes its own after 5 s; ours have to go
    first, or a request is sent into a closing one."""

    first_byte_seconds: float = Field(default=120.0, gt=0)
    """Patience with the first byte of an answer, on top of the time that the prompt takes at
    `GATEWAY_PREFILL_FLOOR_TOKENS_PER_SECOND`."""

    prefill_floor_tokens_per_second: float = Field(default=400.0, gt=0)
    """The slowest reading of a prompt that is borne with: a tenth of what one H100 does at a full
    context."""

    inter_token_seconds: float = Field(default=60.0, gt=0)
    """Silence that a worker may keep between tokens: others' long prompts hold it up, a hung one
    says nothing ever."""

    probe_seconds: float = Field(default=5.0, gt=0)
    """Between two probes of a worker's `/health` and metrics."""

    probe_timeout_seconds: float = Field(default=5.0, gt=0)
    """What an answer to a probe may take."""

    worker_check: WorkerCheck = WorkerCheck.REFUSE
    """Before its first request a worker is asked whether it splits the thought off as its settings
    say. One that does not gets none (`refuse`), or is told of in the log (`warn`); `off` asks
    nothing."""

    worker_check_seconds: float = Field(default=120.0, gt=0)
    """What an answer to the check may take: a busy worker queues it."""

    worker_check_retry_seconds: float = Field(default=30.0, gt=0)
    """After which a worker that failed is asked again; it costs the worker an answer."""
