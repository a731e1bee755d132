"""Whatever is asked, in whatever order, on whichever day, with whichever failures: each request
that was recorded leads to all that it said."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.audit.content.canonical import canonical
from app.audit.content.nodes import ROOT, message_payload, read_message_payload
from app.audit.content.redaction import Redaction, masking
from app.audit.content.request import RequestContent
from app.audit.content.stored_today import SECONDS_PER_DAY
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from app.protocol.request import Json
from tests.unit.audit.content.asked import ADDRESSES, Process, read

texts = st.text(alphabet='ab"\\\u2028\x00é\U0001f600', max_size=4)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
finite = values.map(lambda value: orjson.loads(orjson.dumps(value)))
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(("user", "assistant")), "content": st.sampled_from(("a", "b", "c"))}
)
conversations = st.lists(messages, min_size=1, max_size=6)


def shuffled(value: Any) -> Any:
    """The same, its names in the other order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(finite)
def test_a_value_has_one_form_from_which_it_comes_back(value: Any) -> None:
    written = canonical(value)
    assert orjson.loads(written) == value
    assert canonical(shuffled(value)) == written
    assert canonical(orjson.loads(written)) == written


@given(st.text(max_size=20), st.binary(min_size=32, max_size=32), st.binary(max_size=2_000))
def test_a_payload_gives_back_its_message(tenant: str, parent: bytes, body: bytes) -> None:
    node = ADDRESSES.node(tenant, parent, body)
    message = read_message_payload(message_payload(node, tenant))
    assert message.intact
    assert (message.tenant, message.parent, message.text()) == (tenant, parent, body)


@given(conversations, conversations)
def test_conversations_share_the_addresses_of_what_they_share(
    one: list[Json], other: list[Json]
) -> None:
    stored = [process_addresses(conversation) for conversation in (one, other)]
    shared = 0
    while one[:shared] == other[:shared] and shared <= min(len(one), len(other)):
        shared += 1
    assert len(set(stored[0]) & set(stored[1])) == shared - 1


def process_addresses(conversation: list[Json]) -> list[bytes]:
    *nodes, _ = read(Process().ask(*conversation).payloads)
    return [node.address for node in nodes]


PLAIN = Redaction()
WORD = Rule("t.b", "b", 1, replacement="[b]")
MASKING = Redaction(masking(FilterRules([(WORD, Action.BLOCK)])))

# Who is asked, what, whether its append fails, and how many hours pass before it is acknowledged.
turns = st.lists(
    st.tuples(st.integers(0, 1), conversations, st.booleans(), st.sampled_from((0, 0, 9))),
    max_size=20,
)


@given(turns, st.integers(2, 12), st.sampled_from((PLAIN, MASKING)))
def test_every_recorded_request_leads_to_all_that_it_said(
    asked: list[tuple[int, list[Json], bool, int]], entries: int, redaction: Redaction
) -> None:
    processes = [Process(entries=entries, redaction=redaction) for _ in range(2)]
    by_day: dict[int, dict[bytes, Any]] = {}
    for which, conversation, fails, hours in asked:
        process = processes[which]
        content = process.ask(*conversation)
        day = int(process.now // SECONDS_PER_DAY)
        for one in processes:
            one.now += hours * SECONDS_PER_DAY / 24
        if fails:
            continue
        process.store(content)
        stored = by_day.setdefault(day, {})
        stored |= {message.address: message for message in read(content.payloads)}
        # Of its own day alone: older ones may have been dropped.
        kept = [orjson.loads(redaction.masked(message)) for message in conversation]
        assert said_on(stored, content) == kept
        first = content.content["conversation"]
        users = [index for index, one in enumerate(conversation) if one["role"] == "user"]
        assert (first is None) == (not users)
        if users:
            upto = Process(redaction=redaction).ask(*conversation[: users[0] + 1])
            assert first == upto.content["prompt"]
        assert bytes.fromhex(content.content["envelope"]) in stored


def said_on(stored: dict[bytes, Any], content: RequestContent) -> list[Any]:
    found = []
    address = bytes.fromhex(content.content["prompt"])
    while address != ROOT:
        found.append(orjson.loads(stored[address].text()))
        address = stored[address].parent
    return found[::-1]


@given(st.lists(conversations, max_size=10))
def test_a_process_with_room_stores_nothing_twice(asked: list[list[Json]]) -> None:
    process = Process(entries=10_000)
    written: list[bytes] = []
    for conversation in asked:
        written += [message.address for message in process.store(process.ask(*conversation))]
    assert len(written) == len(set(written))
