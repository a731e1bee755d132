"""What is shown of the audit log as JSON, at a terminal and by the admin API: the same."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from app.audit.exchange import Exchange, Said, State
from app.audit.row import AuditRow
from app.audit.search import cursor_of


@dataclass(frozen=True, slots=True)
class AuditRecordView(AuditRow):
    """`cursor` is where the page after this record begins. Times are as in ISO 8601, in UTC."""

    cursor: str = ""
    object: Literal["audit.record"] = "audit.record"


class ErasureView(BaseModel):
    erased_at: datetime
    by: str
    reason: str


class SaidView(BaseModel):
    """`body` is as the client sent it, or got it; null where there is none to be read."""

    address: str
    state: State
    body: Any
    erasure: ErasureView | None


class ExchangeView(BaseModel):
    parameters: SaidView | None = Field(description="All of the body but its messages.")
    messages: list[SaidView]
    missing_messages: int = Field(description="Those before the first that is here.")
    answers: dict[str, SaidView] = Field(description="By the number of the choice.")
    partial: bool = Field(description="The answer is what was shown some time before a crash.")


@dataclass(frozen=True, slots=True)
class AuditExchangeView(AuditRecordView):
    """`exchange` is null where no text is kept."""

    exchange: ExchangeView | None = None


def record_view(row: AuditRow) -> AuditRecordView:
    values = {field.name: getattr(row, field.name) for field in fields(AuditRow)}
    return AuditRecordView(**values, cursor=cursor_of(row))


def record_json(row: AuditRow) -> bytes:
    return orjson.dumps(record_view(row))


def exchange_json(row: AuditRow, exchange: Exchange | None) -> bytes:
    """Of the form of AuditExchangeView. Bodies go in as they are stored: parsed and written again
    they would take seconds, and not all of them can be written."""
    record = record_view(row)
    shown = {field.name: getattr(record, field.name) for field in fields(record)}
    return orjson.dumps(shown | {"exchange": None if exchange is None else _exchange(exchange)})


def _exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "parameters": None if exchange.parameters is None else _said(exchange.parameters),
        "messages": [_said(message) for message in exchange.messages],
        "missing_messages": exchange.missing_messages,
        "answers": {choice: _said(answer) for choice, answer in exchange.answers.items()},
        "partial": exchange.partial,
    }


def _said(said: Said) -> dict[str, Any]:
    return {
        "address": said.address,
        "state": said.state,
        "body": None if said.body is None else orjson.Fragment(said.body),
        "erasure": said.erasure,
    }
