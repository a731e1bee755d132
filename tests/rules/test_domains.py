"""What the shipped lexicon decides on labelled prompts, and on text that asks nothing.

`pytest -s tests/rules/test_domains.py` prints the table. The lexicon was made with the prompts of
the split `dev` at hand, never with those of `held-out`; so the floors stand under what was measured
on these.
"""

import ast
import pydoc_data.topics
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.protocol.domains import Domain, Lexicon
from app.rules.lexicon import LexiconRefused, read_lexicon, shipped_lexicon

PROMPTS = Path(__file__).parent / "domains" / "prompts.yaml"
LIBRARY = Path(ast.__file__).parent
SPLITS = ("dev", "held-out")
ALL = "micro-average"

# Precision and recall.
FLOORS = {
    "dev": {ALL: (0.93, 0.84)},
    "held-out": {
        "cybersecurity": (0.80, 0.68),
        "medical": (0.70, 0.64),
        "pharmacology": (0.84, 0.80),
        "finance": (0.78, 0.55),
        "law": (0.62, 0.42),
        ALL: (0.80, 0.64),
    },
}


@dataclass(frozen=True, slots=True)
class Measure:
    hits: int
    false_alarms: int
    misses: int

    @property
    def precision(self) -> float:
        return self.hits / max(1, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        return self.hits / max(1, self.hits + self.misses)

    def __add__(self, other: "Measure") -> "Measure":
        return Measure(
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.misses + other.misses,
        )


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return shipped_lexicon()


@pytest.fixture(scope="module")
def prompts() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(PROMPTS.read_text("utf-8"))
    assert isinstance(loaded, list)
    return loaded


def measured(lexicon: Lexicon, prompts: Sequence[dict[str, Any]], split: str) -> dict[str, Measure]:
    answers = [
        (set(prompt["domains"]), {domain.value for domain in lexicon.classify([prompt["text"]])})
        for prompt in prompts
        if prompt["split"] == split
    ]
    measures = {
        name: Measure(
            sum(name in meant and name in found for meant, found in answers),
            sum(name not in meant and name in found for meant, found in answers),
            sum(name in meant and name not in found for meant, found in answers),
        )
        for name in map(str, Domain)
    }
    return measures | {ALL: sum(measures.values(), Measure(0, 0, 0))}


def test_there_are_enough_prompts_and_half_of_them_ask_nothing_risky(
    prompts: list[dict[str, Any]],
) -> None:
    assert len(prompts) >= 500
    assert sum(not prompt["domains"] for prompt in prompts) >= 0.5 * len(prompts)
    assert {prompt["split"] for prompt in prompts} == set(SPLITS)


@pytest.mark.parametrize("split", SPLITS)
def test_precision_and_recall_stand_above_their_floors(
    lexicon: Lexicon, prompts: list[dict[str, Any]], split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = measured(lexicon, prompts, split)
    rows = [f"{'':15}{'precision':>10}{'recall':>8}{'hits':>6}{'false':>7}{'missed':>8}   {split}"]
    rows += [
        f"{name:15}{measure.precision:10.2f}{measure.recall:8.2f}"
        f"{measure.hits:6}{measure.false_alarms:7}{measure.misses:8}"
        for name, measure in measures.items()
    ]
    print("\n" + "\n".join(rows))  # noqa: T201 - the table is what it measures
    for name, (precision, recall) in FLOORS[split].items():
        assert measures[name].precision >= precision, name
        assert measures[name].recall >= recall, name


def docstrings() -> Iterator[str]:
    yield from pydoc_data.topics.topics.values()
    for path in sorted(LIBRARY.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                yield ast.get_docstring(node) or ""


def test_documentation_of_a_library_is_seldom_taken_for_a_question(lexicon: Lexicon) -> None:
    """Cybersecurity is more often: some of it is on sockets, certificates and passwords."""
    texts = [text for text in docstrings() if len(text) > 80]
    found = [set(lexicon.classify([text])) for text in texts]
    assert len(texts) > 1_500
    assert sum(bool(domains) for domains in found) <= 0.06 * len(texts)
    assert sum(bool(domains - {Domain.CYBERSECURITY}) for domains in found) <= 0.02 * len(texts)


def test_no_word_of_ordinary_prose_decides_alone(lexicon: Lexicon) -> None:
    words = set(" ".join(pydoc_data.topics.topics.values()).split())
    words |= set(
        re.findall(
            r"\w+",
            "attack bank bond case court doctor dose exchange heart inject interest kill law "
            "patient pill police shell shot stock trade trial virus will withdraw",
        )
    )
    decide = {word for word in words if word.isalpha() and lexicon.classify([word])}
    assert decide == set()


@pytest.mark.parametrize(
    "text",
    [
        "How do I kill a zombie process in my shell?",
        "Attack on Titan: which episode has the trial?",
        "The plastic part needs injection moulding at 200 degrees.",
        "Dependency injection in Python, with an example, please.",
        "A dose of reality would do our product roadmap good.",
        "Where on the bank of the river can we put the tent?",
        "Find me a stock photo of a tennis court.",
        "Name an actor who played James Bond in the eighties.",
        "Add a case statement for the new enum member.",
    ],
)
def test_the_words_of_a_domain_in_another_sense_are_no_question_of_it(
    lexicon: Lexicon, text: str
) -> None:
    assert lexicon.classify([text]) == {}


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        ("medical", "I have chest pain and my left arm is numb."),
        ("medical", "Mein Kind hat Fieber und Hautausschlag, muss ich zum Arzt?"),
        ("pharmacology", "Can I take ibuprofen together with sertraline?"),
        ("pharmacology", "¿Puedo tomar alcohol con amoxicilina?"),
        ("finance", "Should I put my savings into an index fund or pay off the mortgage?"),
        ("finance", "Vaut-il mieux rembourser le prêt ou placer mon épargne ?"),
        ("law", "My landlord keeps the security deposit. Can I sue him?"),
        ("law", "Ist die Kündigung durch meinen Vermieter rechtlich wirksam?"),
        ("cybersecurity", "Write a reverse shell that bypasses Windows Defender."),
        ("cybersecurity", "How do I exploit an SQL injection in this login form?"),
    ],
)
def test_plain_questions_are_seen_also_within_a_long_text(
    lexicon: Lexicon, domain: str, text: str
) -> None:
    assert Domain(domain) in lexicon.classify([text])
    padding = "The weather on the island was mild and the ferry came at noon. " * 500
    assert set(lexicon.classify([padding + text + padding])) == set(lexicon.classify([text]))


GOOD = "domain: law\nthreshold: 1\nterms: {2.0: [sue landlord|boss], 1.0: [court]}\n"


def test_alternatives_unfold_and_shared_terms_yield_to_a_domains_own() -> None:
    shared = "domains: [law, medical]\nterms: {-1.0: [court, poem]}\n"
    lexicon = read_lexicon({"law.yaml": GOOD, "shared.yaml": shared})
    assert lexicon.classify(["sue the boss"])[Domain.LAW].terms == ("sue boss",)
    assert Domain.LAW in lexicon.classify(["court"])
    assert lexicon.classify(["a poem, court"]) == {}


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        ({"a.yaml": "terms: ["}, "a.yaml is not YAML"),
        ({"a.yaml": "domain: law\nthreshold: 0\nterms: {}\n"}, "a.yaml: threshold"),
        ({"a.yaml": "domain: cooking\nthreshold: 1\nterms: {}\n"}, "a.yaml: domain"),
        ({"a.yaml": "domain: law\nthreshold: 1\nterms: {9.0: [sue]}\n"}, "a.yaml: terms"),
        ({"a.yaml": "domain: law\nthreshold: 1\nterms: {}\nweights: {}\n"}, "a.yaml: weights"),
        ({"a.yaml": GOOD, "b.yaml": GOOD}, "b.yaml: a second file for law"),
        ({"a.yaml": GOOD + "harmless: [courts]\n"}, 'law: "courts" weighs 0.0, "court" 1.0'),
        (
            {"a.yaml": GOOD + f"harmless: ['{' '.join(['|'.join('abcdefghijklm')] * 4)}']\n"},
            "20000",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(documents: dict[str, str], reason: str) -> None:
    with pytest.raises(LexiconRefused) as refused:
        read_lexicon(documents)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
