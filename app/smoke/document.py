"""Long texts to be read: varied, never the same twice, with one sentence in them to be found.

One word over and over would send a model round in circles, and two texts that begin alike would
share a prefix in the server's cache.
"""

from dataclasses import dataclass
from random import Random

SENTENCES_PER_PAGE = 8
SHALLOWEST, DEEPEST = 0.1, 0.9  # of the text: neither its beginning nor its end

QUESTION = "Which two words open the green gate? Answer with these two words alone."


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMES = _words(
    "Ada Anna Arne Berit Carl Clara Dora Edda Elis Emil Erna Frida Greta Gustav Hedda Henrik Ida "
    "Ingrid Ivar Jonas Karin Lars Lena Linus Magnus Maja Marta Nils Olga Oskar Petra Ragna Sigrid "
    "Sven Thea Tove Ulla Vera Viktor Ylva"
)
_PLACES = _words(
    "harbour orchard mill bridge meadow village station quarry garden market tower lake forest "
    "library workshop hill river square bakery boathouse barn windmill island valley shore canal "
    "terrace courtyard staircase attic"
)
_THINGS = _words(
    "lanterns baskets ropes maps kettles barrels stones ladders boats bells letters candles apples "
    "chairs windows coats jars boxes nails books plates wheels pears bricks buttons clocks drums "
    "feathers ribbons shovels"
)
_QUALITIES = _words(
    "old blue heavy narrow bright quiet round wooden cold smooth broken tall yellow empty rough "
    "small crooked painted dusty warm"
)
_WEATHERS = _words("rain fog snow wind sun frost hail drizzle thunder haze")
_DEEDS = _words(
    "carried counted painted repaired sorted sold borrowed cleaned moved stacked drew weighed "
    "wrapped found returned"
)
_TIMES = _words("morning afternoon evening night spring summer autumn winter")

_FORMS = (
    "{name} {deed} {n} {things} near the {quality} {place}.",
    "In the {time} {name} walked {n} steps from the {place} to the {place2}, in {weather}.",
    "There were {n} {quality} {things} at the {place}, and {m} of them belonged to {name}.",
    "After the {weather} came {weather2}, and {name} left the {place} with {n} {things}.",
    "{name} asked {name2} why the {quality} {place} had only {n} {things}.",
    "On page {n} of the {quality} ledger, {name} had written of {m} {things}.",
    "Nobody at the {place} knew whose {n} {quality} {things} those were, not even {name}.",
    "{name} and {name2} {deed} the {things} until {time}, {n} in all.",
    "From the {place} one could see the {place2}, {n} metres away through the {weather}.",
    "It took {name} {n} days to learn how the {quality} {things} were kept at the {place}.",
    "Each {time}, {n} people crossed the {place}, and {name} greeted {m} of them.",
    "{name2} preferred the {place}; {name}, who {deed} {things} there, did not.",
)

# Neither of them is a word of the text above.
_FIRST_WORDS = _words(
    "amber silver velvet crimson marble hollow golden copper ivory scarlet granite emerald violet "
    "bronze opal cobalt"
)
_SECOND_WORDS = _words(
    "heron badger falcon otter lynx raven walrus beetle panther salmon sparrow tortoise gecko "
    "dolphin weasel magpie"
)


@dataclass(frozen=True, slots=True)
class Document:
    """`words` stand in one sentence of the text, at `depth` of it (0 to 1)."""

    text: str
    words: str
    depth: float

    def found_in(self, answer: str) -> bool:
        return self.words in " ".join(answer.casefold().split())


def make_document(seed: str, characters: int) -> Document:
    """The same for the same seed, of that length to a sentence."""
    random = Random(seed)  # noqa: S311 - text that can be made again, no secret
    words = f"{random.choice(_FIRST_WORDS)} {random.choice(_SECOND_WORDS)}"
    depth = random.uniform(SHALLOWEST, DEEPEST)
    needle = f"The two words that open the green gate are {words}."
    pieces: list[str] = []
    written = sentences = 0
    hidden = False
    while written < characters or not hidden:
        if sentences % SENTENCES_PER_PAGE == 0:
            piece = f"\n\nPage {sentences // SENTENCES_PER_PAGE + 1}.\n\n"
        elif not hidden and written >= depth * characters:
            piece, hidden = f"{needle} ", True
        else:
            piece = f"{_sentence(random)} "
        pieces.append(piece)
        written += len(piece)
        sentences += 1
    return Document("".join(pieces).strip(), words, depth)


def _sentence(random: Random) -> str:
    name, name2 = random.sample(_NAMES, 2)
    place, place2 = random.sample(_PLACES, 2)
    weather, weather2 = random.sample(_WEATHERS, 2)
    return random.choice(_FORMS).format(
        name=name,
        name2=name2,
        place=place,
        place2=place2,
        weather=weather,
        weather2=weather2,
        things=random.choice(_THINGS),
        quality=random.choice(_QUALITIES),
        deed=random.choice(_DEEDS),
        time=random.choice(_TIMES),
        n=random.randint(2, 999),
        m=random.randint(2, 99),
    )
