"""How limits are enforced; how much each may take stands at the key, the plan and the tenant."""

from pydantic import Field

from app.settings.forms import Theme


class LimitSettings(Theme):
    """Limits

    See [Limits](limits.md).
    """

    redis_timeout_seconds: float = Field(default=0.075, gt=0, le=1)
    """How long Redis may take to decide; then the request is decided in this process. A healthy one
    answers within 1 ms, and a slow one is worse than a dead one."""

    redis_cluster: bool = False
    """Whether `GATEWAY_REDIS_URL` names a node of a cluster."""

    redis_prefix: str = Field(default="gateway:", pattern=r"^[^{}\s]{0,64}$")
    """Begins the name of every key in Redis, where others use the same one. At most 64 characters,
    no braces or spaces: braces choose the node of a cluster."""

    lease_seconds: float = Field(default=30.0, ge=1, le=300)
    """A replica that is killed frees its running requests after this time. Renewed three times as
    often, so that two renewals may be lost."""

    replicas: int = Field(default=1, ge=1)
    """How many processes share the limits until Redis has said it: one that starts while Redis is
    away cannot know. By default those of this server."""

    outage_budget_share: float = Field(default=0.05, ge=0, le=1)
    """Of a token budget, what all replicas together may spend while Redis is away. Then it
    closes."""

    # Below RECOUNT_SECONDS of app/limits/recounts.py.
    recount_delay_seconds: float = Field(default=5.0, gt=0, le=15)
    """An audit record is written by then, also on a busy database: budgets are counted from
    them."""

    settle_seconds: float = Field(default=5.0, gt=0)
    """How long the limits may take at a request's end, which a client's leaving cannot cut
    short."""

    cached_token_weight: float = Field(default=0.1, ge=0, le=1)
    """What a prompt's token that a worker has in its prefix cache counts, against one that it
    reads: a tenth, as hosted models are priced. It costs no prefill, but memory and attention as
    any other."""
