"""What is asked: conversations of agents that grow, short questions, and prompts of a million.

All of it follows from a seed. A text is as long as it has to be and says nothing; each section of
it begins as no other does.
"""

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum

from app.protocol.conversation import conversation_of
from app.protocol.prefix import Prefix, prefix_of
from app.protocol.prompt_text import PromptText
from bench.pool.cache import BLOCK_TOKENS

TOKEN_BYTES = 4
FILLER = bytes(64 * 1024)

TENANTS = 4
PRODUCTS = 8  # agents: the tools and the system text that all conversations of one begin with
PRODUCT_TOKENS = (2_000, 20_000)
CONVERSATION_MOST_TOKENS = 400_000
CONVERSATION_MEAN_TURNS = 40
# One in so many begins with a document.
DOCUMENT_SHARE = 0.3
DOCUMENT_TOKENS = (20_000, 200_000)
# Tools answer at once, people later. Seconds, on average.
TOOL_SECONDS, PERSON_SECONDS = 8.0, 60.0
PERSON_SHARE = 0.3
LONG_TOKENS = (900_000, 1_000_000)
LONG_ASKED_AGAIN_SHARE = 0.5  # a second question about the same, of as many
LONG_SECONDS = 60.0  # between them
MAX_BLOCKS = 10_000  # more than any prompt has
STREAM_CONVERSATIONS = 1_000_000  # more than one stream of chance begins


class Kind(StrEnum):
    SHORT = "short"
    AGENT = "agent"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class Prompt:
    """`blocks` are what an engine makes of it, `prefix` and `conversation` what a gateway does.
    `seen_tokens` of it have been asked before: what could be in a cache."""

    kind: Kind
    tenant: str
    tokens: int
    seen_tokens: int
    blocks: list[int]
    prefix: Prefix
    conversation: bytes


@dataclass(frozen=True, slots=True)
class Product:
    number: int
    tenant: str
    tokens: int


@dataclass
class Conversation:
    """Grows with each turn. Its first section is the product's: tools and system text."""

    number: int
    kind: Kind
    product: Product
    tokens: int = 0
    turns: int = 0
    _sections: list[tuple[bytes, ...]] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)
    _blocks: list[int] = field(default_factory=list)
    _seen_blocks: int = 0

    def __post_init__(self) -> None:
        if self.product.tokens:
            self._add(f"product {self.product.number}", self.product.tokens)
        else:
            self._sections.append((b"",))
            self._sizes.append(0)
        self._sections.append((b"",))  # no system text beside the tools
        self._sizes.append(0)

    def say(self, tokens: int) -> None:
        self._add(f"conversation {self.number} part {len(self._sections)}", tokens)

    def ask(self) -> Prompt:
        text = PromptText(tuple(self._sections), tuple(self._sizes), sum(self._sizes), first_user=2)
        full = (self.tokens - 1) // BLOCK_TOKENS  # of the last token there is never a hit
        common = self.product.tokens // BLOCK_TOKENS
        for at in range(len(self._blocks), full):
            owner = -1 - self.product.number if at < common else self.number
            self._blocks.append((owner + PRODUCTS) * MAX_BLOCKS + at)
        seen, self._seen_blocks = self._seen_blocks, full
        self.turns += 1
        return Prompt(
            self.kind,
            self.product.tenant,
            self.tokens,
            seen * BLOCK_TOKENS,
            self._blocks[:full],
            prefix_of(text, self.product.tenant),
            conversation_of(text, self.product.tenant),
        )

    def _add(self, opening: str, tokens: int) -> None:
        size = tokens * TOKEN_BYTES
        pieces = [opening.encode().ljust(64, b".")[:size]]
        left = size - len(pieces[0])
        pieces += [FILLER] * (left // len(FILLER))
        if rest := left % len(FILLER):
            pieces.append(FILLER[:rest])
        self._sections.append(tuple(pieces))
        self._sizes.append(size)
        self.tokens += tokens


class Traffic:
    """Draws from one stream of chance, so that any use of it repeats with the seed. All streams of
    a seed have the same products."""

    def __init__(self, seed: int, stream: int) -> None:
        self.chance = random.Random(f"{seed} products")
        self.products = [
            Product(number, f"tenant {number % TENANTS}", self._between(PRODUCT_TOKENS))
            for number in range(PRODUCTS)
        ]
        self.chance = random.Random(f"{seed} stream {stream}")
        self._number = stream * STREAM_CONVERSATIONS

    def short(self) -> tuple[Prompt, int]:
        """The question, and how long its answer is."""
        conversation = self._begin(Kind.SHORT, self._strange())
        conversation.say(self._about(400, most=4_000))
        return conversation.ask(), self._about(150, most=1_000)

    def long(self) -> Conversation:
        conversation = self._begin(Kind.LONG, self._strange())
        conversation.say(self._between(LONG_TOKENS))
        return conversation

    def agent(self, *, under_way: bool = False) -> Conversation:
        """`under_way`: it is as long already as one may be that is met by chance."""
        conversation = self._begin(Kind.AGENT, self.chance.choice(self.products))
        if under_way:
            conversation.say(self.chance.randrange(CONVERSATION_MOST_TOKENS // 2))
            return conversation
        documents = self._between(DOCUMENT_TOKENS) if self._happens(DOCUMENT_SHARE) else 0
        conversation.say(self._about(500, most=5_000) + documents)
        return conversation

    def go_on(self, conversation: Conversation) -> tuple[Prompt, int]:
        prompt = conversation.ask()
        answer = self._about(200, most=4_000)
        conversation.say(answer)
        conversation.say(self._about(1_500, most=20_000))  # what tools or people say to it
        return prompt, answer

    def ends(self, conversation: Conversation) -> bool:
        too_long = conversation.tokens > CONVERSATION_MOST_TOKENS
        return too_long or self._happens(1 / CONVERSATION_MEAN_TURNS)

    def pause_seconds(self) -> float:
        mean = PERSON_SECONDS if self._happens(PERSON_SHARE) else TOOL_SECONDS
        return self.chance.expovariate(1 / mean)

    def asks_again(self) -> bool:
        return self._happens(LONG_ASKED_AGAIN_SHARE)

    def _begin(self, kind: Kind, product: Product) -> Conversation:
        self._number += 1
        return Conversation(self._number, kind, product)

    def _strange(self) -> Product:
        """No product: nothing that others begin with."""
        return Product(-1, f"tenant {self.chance.randrange(TENANTS)}", 0)

    def _happens(self, share: float) -> bool:
        return self.chance.random() < share

    def _between(self, bounds: tuple[int, int]) -> int:
        """As many from 20,000 to 40,000 as from 40,000 to 80,000."""
        low, high = bounds
        return int(math.exp(self.chance.uniform(math.log(low), math.log(high))))

    def _about(self, median: int, *, most: int) -> int:
        return max(20, min(most, int(self.chance.lognormvariate(math.log(median), 1.0))))
