"""`python -m bench.stored_once`: bytes that a growing conversation costs where it is stored, beside
the sum of the bodies in which its client sent it.

Each turn sends all that was said before, as agents do. The texts are this repository's own sources
and documents, one slice after the other: English and code, none of it twice.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import orjson
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.answers import answer_content
from app.audit.content.nodes import TenantAddresses, read_message_payload
from app.audit.content.redaction import Redaction
from app.audit.content.request import content_of
from app.audit.content.stored_today import StoredToday
from app.embedded.postgres import embedded_postgres
from app.protocol.request import Json
from app.store.database import create_engine
from app.store.migrate import upgrade
from app.store.tables import audit_messages

ROOT = Path(__file__).parents[1]
TENANT = "bench"
KNOWN_ENTRIES = 100_000  # as the setting's default is
DAY = date(2026, 11, 30)
QUESTION_SHARE = 0.7  # of a turn: what is asked, tools' results among it, is longer than an answer
MIB = 1024 * 1024


@dataclass(frozen=True)
class Scenario:
    """`characters` of text, four of which are about a token."""

    title: str
    turns: int
    characters: int
    processes: int = 1


SCENARIOS = (
    Scenario("100 turns, 200k tokens", 100, 800_000),
    Scenario("the same, two processes in turn", 100, 800_000, processes=2),
    Scenario("2,000 turns, 200k tokens", 2_000, 800_000),
    Scenario("the same, two processes in turn", 2_000, 800_000, processes=2),
)


@dataclass
class Cost:
    """Bytes, and seconds of this process."""

    text: int = 0
    bodies: int = 0
    spooled: int = 0
    seconds: float = 0.0
    rows: int = 0
    table: int = 0  # with its index and its TOAST table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stored_once", description=__doc__)
    parser.parse_args(arguments)
    asyncio.run(_run())
    return 0


async def _run() -> None:
    head = ("", "bodies MiB", "text MiB", "spooled MiB", "table MiB", "bodies/table", "ms/turn")
    print("{:34}{:>12}{:>10}{:>13}{:>11}{:>14}{:>9}".format(*head))
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as home:
        async with embedded_postgres(Path(home)) as url:
            engine = create_engine(url)
            try:
                await upgrade(engine)
                for scenario in SCENARIOS:
                    _print(scenario, await _measured(scenario, engine))
            finally:
                await engine.dispose()


def _print(scenario: Scenario, cost: Cost) -> None:
    sizes = (cost.bodies, cost.text, cost.spooled, cost.table)
    bodies, said, spooled, table = (size / MIB for size in sizes)
    print(
        f"{scenario.title:34}{bodies:12.1f}{said:10.2f}{spooled:13.2f}{table:11.2f}"
        f"{bodies / table:13.0f}x{cost.seconds / scenario.turns * 1_000:9.2f}"
    )


async def _measured(scenario: Scenario, engine: AsyncEngine) -> Cost:
    async with engine.begin() as connection:
        await connection.execute(select(func.audit_make_partitions(DAY, DAY)))
        await connection.execute(text("TRUNCATE audit_messages"))
    cost = Cost()
    for payloads in _stored(scenario, cost):
        await _ship(engine, payloads)
    async with engine.connect() as connection:
        partition = f"audit_messages_{DAY:%Y%m%d}"
        cost.table = await connection.scalar(select(func.pg_total_relation_size(partition))) or 0
        cost.rows = await connection.scalar(select(func.count()).select_from(audit_messages)) or 0
    if cost.rows != 2 * scenario.turns + 1:
        raise RuntimeError(f"{cost.rows} rows: not every message once, and the envelope")
    return cost


def _stored(scenario: Scenario, cost: Cost) -> Iterator[list[bytes]]:
    """The payloads of each turn, as the pipeline would have them."""
    addresses, redaction = TenantAddresses(b"p" * 32), Redaction()
    known = [StoredToday(KNOWN_ENTRIES, time.time) for _ in range(scenario.processes)]
    messages: list[Json] = []
    for turn, (question, answer) in enumerate(_turns(scenario)):
        messages.append({"role": "user", "content": question})
        sent = {"model": "qwythos", "messages": messages, "stream": True}
        said: Json = {"role": "assistant", "content": answer}
        begun = time.process_time()
        asked = content_of(sent, TENANT, addresses, known[turn % scenario.processes], redaction)
        prompt = asked.content["prompt"]
        answered = answer_content({0: said}, TENANT, prompt, addresses, redaction)
        known[turn % scenario.processes].mark(asked.addresses)
        cost.seconds += time.process_time() - begun
        messages.append(said)
        payloads = [*asked.payloads, *answered.payloads]
        cost.text += len(question.encode()) + len(answer.encode())
        cost.bodies += len(orjson.dumps(sent))
        cost.spooled += sum(map(len, payloads))
        yield payloads


def _turns(scenario: Scenario) -> Iterator[tuple[str, str]]:
    corpus = _corpus()
    size = scenario.characters // scenario.turns
    cut = int(size * QUESTION_SHARE)
    for start in range(0, scenario.turns * size, size):
        part = corpus[start : start + size]
        if len(part) < size:
            raise RuntimeError("the repository holds too little text")
        yield part[:cut], part[cut:]


def _corpus() -> str:
    """A document, a source, a document, ..."""
    sources = sorted(ROOT.glob("app/**/*.py")) + sorted(ROOT.glob("tests/**/*.py"))
    documents = sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("*.md"))
    mixed = [path for pair in zip(documents, sources, strict=False) for path in pair]
    mixed += sources[len(documents) :]
    return "".join(path.read_text("utf-8") for path in mixed)


async def _ship(engine: AsyncEngine, payloads: Sequence[bytes]) -> None:
    """As the shipper does: what is there already stays."""
    rows = [
        {
            "stored_on": DAY,
            "tenant": message.tenant,
            "address": message.address,
            "parent": message.parent,
            "salt": message.salt,
            "encoding": message.encoding,
            "body": message.body,
        }
        for message in map(read_message_payload, payloads)
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(audit_messages).on_conflict_do_nothing(), rows)


if __name__ == "__main__":
    main()
