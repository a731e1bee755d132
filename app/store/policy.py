"""What a key may do, as it is stored beside the key."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Limit = Annotated[int, Field(ge=1, le=10**12)]


class Policy(BaseModel):
    """None means "as the gateway's settings say", for limits "none"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] | None = None
    max_output_tokens: Limit | None = None
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    concurrency: Limit | None = None
