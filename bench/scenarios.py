"""What is asked and what is answered. The worker, the load and the checks all read it here."""

from dataclasses import dataclass

import orjson

MODEL = "empero-ai/Qwythos-9B-Claude-Mythos-5-1M"
THOUGHT = "pondering "  # each piece of a thought: none may reach a client of the gateway
WORD = "gateway "  # each piece of an answer: all of them must
MARK = "bench scenario "  # the last message begins with it, so that any relay carries it along
NO_NUMBER = "0" * 16  # in its place: the number of the request

MIB = 1024 * 1024
# Prose with what real documents hold: quotes and line ends to be escaped, a tag, an ellipsis.
DOCUMENT = (
    'The relay "forwards" what it is given, and keeps nothing of it.\n'
    "A <worker> reads the prompt once, and then writes one token after another.\n"
    "Whoever waits for the first of them has waited for all of the prompt ...\n\n"
)


@dataclass(frozen=True)
class Scenario:
    """One kind of request. An answer is one role event, the pieces, and the end."""

    name: str
    title: str
    thought_pieces: int
    answer_pieces: int
    stream: bool
    by_event: bool = False  # a write for each event, as engines do; else the answer is one write
    pace_seconds: float = 0.0  # between the writes
    document_bytes: int = 0  # that the prompt carries

    @property
    def events(self) -> int:
        """Role, pieces and finish; the usage that follows is sent together with the finish."""
        return self.thought_pieces + self.answer_pieces + 2


UNARY = Scenario("unary", "unary request", 3, 5, stream=False)
STREAM = Scenario("stream", "260-event stream", 100, 158, stream=True, by_event=True)
PACED = Scenario(
    "paced", "132 events, 20 ms apart", 50, 80, stream=True, by_event=True, pace_seconds=0.02
)
LARGE = Scenario("large", "4 MB body", 3, 5, stream=False, document_bytes=4 * MIB)
SCENARIOS = {scenario.name: scenario for scenario in (UNARY, STREAM, PACED, LARGE)}


def request_body(scenario: Scenario) -> bytes:
    """What a client sends, to nginx and to the gateway alike. Each request has a number of its own
    where NO_NUMBER stands: of a text that is asked twice the audit log would keep only one."""
    document = DOCUMENT * (scenario.document_bytes // len(DOCUMENT) + 1)
    text = f"{MARK}{scenario.name}. {NO_NUMBER} {document[: scenario.document_bytes]}"
    body: dict[str, object] = {
        "model": "qwythos",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": text.rstrip()},
        ],
        "max_tokens": 1024,
    }
    if scenario.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(body)


def scenario_of(body: bytes) -> Scenario | None:
    """The scenario that a worker was asked for, from (the beginning of) a request's body."""
    start = body.find(MARK.encode())
    if start < 0:
        return None
    name = body[start + len(MARK) : start + len(MARK) + 16].partition(b".")[0]
    return SCENARIOS.get(name.decode("ascii", "replace"))
