"""What an event RETENTION says. Nothing here does I/O."""

from collections.abc import Mapping
from typing import Any

from app.audit.chain import ChainHead


def dropped_heads(values: Mapping[str, Any]) -> dict[str, ChainHead]:
    """The last event that was dropped of each writer, as far as that can be read."""
    chains = values.get("chains")
    heads = {
        writer: _head(last) for writer, last in (chains if isinstance(chains, dict) else {}).items()
    }
    return {writer: head for writer, head in heads.items() if head is not None}


def _head(value: Any) -> ChainHead | None:
    try:
        sequence, digest = value
        return ChainHead(int(sequence), bytes.fromhex(digest))
    except (TypeError, ValueError):
        return None
