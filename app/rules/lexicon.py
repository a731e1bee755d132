"""The terms of the high-risk domains, from the files in `domains/`.

A domain has one file. Its terms stand under what they weigh; `|` parts words of which any may stand
there, so "heart attack|failure" is two terms. `harmless` ones weigh nothing and hide the words in
them. How words are written is told in app/protocol/domains.py.

    domain: medical
    threshold: 1.6
    terms:
      2.0: [chest pain, heart attack|failure]
      1.0: [symptom*, swollen]
    harmless: [heart of gold]

A file with `domains: [medical, law]` instead holds terms that these share. Where a domain has its
own weight for the same words, that one counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import islice, product
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from app.protocol.domains import Domain, Lexicon, Term, term_words
from app.rules.strict_yaml import NotYaml, parse

MAX_WEIGHT = 5.0  # three times what decides alone
MAX_TERMS = 20_000  # of one file: some 10 MB; a line with many `|` unfolds to as many

Words = Annotated[StrictStr, Field(min_length=2, max_length=400)]
Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


class LexiconRefused(ValueError):
    """The reason, in one line that names the file."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    terms: Mapping[Weight, tuple[Words, ...]]
    harmless: tuple[Words, ...] = ()

    def all_terms(self) -> list[Term]:
        """Raises ValueError where there are too many."""
        terms = list(islice(self._unfolded(), MAX_TERMS + 1))
        if len(terms) > MAX_TERMS:
            raise ValueError(f"more than {MAX_TERMS} terms in one file")
        return terms

    def _unfolded(self) -> Iterator[Term]:
        for weight, lines in [*self.terms.items(), (0.0, self.harmless)]:
            for line in lines:
                for words in product(*(word.split("|") for word in line.split())):
                    yield Term(words, weight)


class _DomainDocument(_Document):
    domain: Domain
    threshold: Annotated[float, Field(gt=0, le=100)]


class _CommonDocument(_Document):
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)]


@lru_cache(maxsize=1)  # it does not change while the process runs
def shipped_lexicon() -> Lexicon:
    """All five domains; takes some 0.5 s."""
    folder = files("app.rules") / "domains"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return read_lexicon({name: (folder / name).read_text("utf-8") for name in names})


def read_lexicon(documents: Mapping[str, str]) -> Lexicon:
    """YAML texts by the names of their files. Raises LexiconRefused."""
    own: dict[Domain, _DomainDocument] = {}
    common: list[_CommonDocument] = []
    for name, text in documents.items():
        document = _document(name, text)
        if isinstance(document, _CommonDocument):
            common.append(document)
        elif document.domain in own:
            raise LexiconRefused(f"{name}: a second file for {document.domain}")
        else:
            own[document.domain] = document
    try:
        terms = {domain: _with_common(document, common) for domain, document in own.items()}
        return Lexicon(terms, {domain: own[domain].threshold for domain in own})
    except ValueError as error:
        raise LexiconRefused(f"{', '.join(documents)}: {error}") from None


def _with_common(document: _DomainDocument, common: Sequence[_CommonDocument]) -> list[Term]:
    terms = document.all_terms()
    own = {term_words(term) for term in terms}
    for shared in common:
        if document.domain in shared.domains:
            terms += [term for term in shared.all_terms() if term_words(term) not in own]
    return terms


def _document(name: str, text: str) -> _DomainDocument | _CommonDocument:
    try:
        values = parse(text)
        common = isinstance(values, dict) and "domains" in values
        return (_CommonDocument if common else _DomainDocument).model_validate(values)
    except NotYaml as error:
        raise LexiconRefused(f"{name} is not YAML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise LexiconRefused(f"{name}: {where}: {first['msg']}") from None
