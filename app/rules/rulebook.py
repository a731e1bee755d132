"""The rules of all packs, and what each profile does about them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import hyperscan
import regex

from app.protocol.domains import Domain
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.pattern import PatternRefused, inspect, inspect_class
from app.protocol.filters.rule import Action, Rule
from app.protocol.filters.text_filter import TextFilter
from app.rules.document import (
    ProfileDocument,
    RuleDocument,
    RulesDocument,
    RulesRefused,
)
from app.rules.phrases import phrase_patterns
from app.rules.validators import VALIDATORS
from app.store.policy import DomainAction

MAX_RULES = 512  # of an operator, in all files: what a stream is searched for, at every token
MAX_PHRASES = 4_000  # of an operator, in all files: some 30 s to compile, at worst
MAX_PROFILES = 64  # each has two sets of compiled rules

# What an engine cannot do with rules that were fit for it one by one: too many of them, perhaps.
NOT_COMPILED = (PatternRefused, regex.error, hyperscan.error)
ACTIONS = {
    "mask": Action.MASK,
    "block": Action.BLOCK,
    "refuse": Action.BLOCK,  # of a prompt
    "flag": Action.FLAG,
}


class UnknownProfile(LookupError):
    """No profile has this name."""


@dataclass(frozen=True, slots=True)
class Pack:
    """`rules` have their full ids, `<pack>.<id>`, as `descriptions` has, which names each once: of
    a long list of phrases, parts are rules of one id."""

    name: str
    description: str
    rules: tuple[Rule, ...]
    descriptions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """With `dry_run` every action is FLAG here already; of `domains` the caller sees to it."""

    name: str
    output: FilterRules
    input: FilterRules
    output_actions: Mapping[str, Action]  # by full id; rules that are off are left out
    input_actions: Mapping[str, Action]
    domains: Mapping[Domain, DomainAction]
    dry_run: bool

    @property
    def prepared(self) -> bool:
        return self.output.prepared and self.input.prepared

    def prepare(self) -> None:
        """Compiles what is compiled once: a second or two, and not for the event loop."""
        self.output.prepare()
        self.input.prepare()


@dataclass(frozen=True, slots=True)
class Rulebook:
    packs: Mapping[str, Pack]
    profiles: Mapping[str, Profile]

    def profile(self, name: str) -> Profile:
        """Raises UnknownProfile."""
        try:
            return self.profiles[name]
        except KeyError:
            raise UnknownProfile(f'there is no profile "{name}"') from None


def build(
    documents: Mapping[str, RulesDocument],
    *,
    base: Rulebook | None = None,
    previous: Rulebook | None = None,
) -> Rulebook:
    """`base` and what the documents, by the names of their files, add to it.

    Packs have names that `base` does not have: a rule that ships means the same everywhere. A
    profile may take the name of one of `base`, and replaces it whole, `default` among them. From
    `previous`, the rulebook in use, comes what is compiled already. Raises RulesRefused.
    """
    _check_sizes(documents.values())
    packs = {} if base is None else dict(base.packs)
    for file, document in documents.items():
        if document.pack is not None:
            if document.pack in packs:
                raise RulesRefused(f'{file}: pack: there is a pack "{document.pack}" already')
            packs[document.pack] = _pack(document.pack, document, file)
            if base is not None:
                _check_narrowing(packs[document.pack], file)
    compiler = _Compiler(packs, (book for book in (base, previous) if book is not None))
    profiles: dict[str, Profile] = {}
    for file, document in documents.items():
        for name, profile in document.profiles.items():
            if name in profiles:
                raise RulesRefused(f"{file}: profile {name}: another file has it already")
            profiles[name] = compiler.profile(name, profile, file)
    return Rulebook(packs, profiles if base is None else {**base.profiles, **profiles})


def _check_sizes(documents: Collection[RulesDocument]) -> None:
    rules = [rule for document in documents for rule in document.rules]
    sizes = {
        "rules": (len(rules), MAX_RULES),
        "phrases": (sum(len(rule.phrases or ()) for rule in rules), MAX_PHRASES),
        "profiles": (sum(len(document.profiles) for document in documents), MAX_PROFILES),
    }
    for name, (size, limit) in sizes.items():
        if size > limit:
            raise RulesRefused(f"the files hold more than {limit} {name}")


def _pack(name: str, document: RulesDocument, file: str) -> Pack:
    return Pack(
        name=name,
        description=document.description,
        rules=tuple(chain.from_iterable(_rules(name, rule, file) for rule in document.rules)),
        descriptions={f"{name}.{rule.id}": rule.description for rule in document.rules},
    )


def _rules(pack: str, document: RuleDocument, file: str) -> tuple[Rule, ...]:
    """One; or several of one id. Checked with its examples, by the filter that will use them."""
    where = f"{file}: rule {document.id}"
    if document.validator is not None and document.validator not in VALIDATORS:
        known = ", ".join(sorted(VALIDATORS))
        raise RulesRefused(f"{where}: validator: there is none of this name; there are {known}")
    if document.then is not None:
        try:
            inspect_class(document.then)
        except PatternRefused as error:
            raise RulesRefused(f"{where}: then: {error}") from None
    field, patterns = "pattern", iter([document.pattern or ""])
    if document.phrases is not None:
        field, patterns = "phrases", phrase_patterns(document.phrases)
    try:
        rules = tuple(_rule(pack, document, pattern) for pattern in patterns)
    except PatternRefused as error:
        raise RulesRefused(f"{where}: {field}: {error}") from None
    _try_out(rules, document, where)
    return rules


def _rule(pack: str, document: RuleDocument, pattern: str) -> Rule:
    """Raises PatternRefused."""
    ignore_case = document.ignore_case or document.phrases is not None
    shape = inspect(pattern, ignore_case=ignore_case)
    return Rule(
        id=f"{pack}.{document.id}",
        pattern=f"(?i:{pattern})" if ignore_case else pattern,
        bound=shape.bound,
        behind=shape.behind,
        firsts=shape.firsts,
        valid=None if document.validator is None else VALIDATORS[document.validator],
        then=document.then,
        replacement=f"[{document.id}]" if document.replacement is None else document.replacement,
    )


def _try_out(rules: Sequence[Rule], document: RuleDocument, where: str) -> None:
    try:
        compiled = FilterRules([(rule, Action.MASK) for rule in rules])
    except NOT_COMPILED as error:
        raise RulesRefused(f"{where}: {error}") from None
    for index, example in enumerate(document.matches):
        if not _holds(example, compiled):
            raise RulesRefused(f"{where}: matches[{index}]: the rule does not match it")
    for index, example in enumerate(document.spares):
        if _holds(example, compiled):
            raise RulesRefused(f"{where}: spares[{index}]: the rule matches it")
    # What is masked comes back in the next request's history, and would be masked again.
    replacement = rules[0].replacement
    if _holds(replacement, compiled):
        raise RulesRefused(f'{where}: replacement: the rule matches "{replacement}"')


def _check_narrowing(pack: Pack, file: str) -> None:
    """Of an operator's rules: not every pattern that `regex` takes can be searched for in long
    texts, and a request would be the first to know."""
    if _narrowing_refusal(pack.rules) is None:
        return
    for rule in pack.rules:
        if (reason := _narrowing_refusal([rule])) is not None:
            name = rule.id.removeprefix(f"{pack.name}.")
            raise RulesRefused(f"{file}: rule {name}: cannot be searched for: {reason}")
    raise RulesRefused(f"{file}: the rules together cannot be searched for")


def _narrowing_refusal(rules: Sequence[Rule]) -> str | None:
    try:
        _ = FilterRules([(rule, Action.MASK) for rule in rules]).enforced.narrow
    except NOT_COMPILED as error:
        return str(error)
    return None


def _holds(text: str, rules: FilterRules) -> bool:
    text_filter = TextFilter(rules)
    text_filter.feed(text)
    text_filter.close()
    return bool(text_filter.hits)


class _Compiler:
    """Profiles that do the same about the same rules share their compiled form."""

    def __init__(self, packs: Mapping[str, Pack], compiled: Iterable[Rulebook]) -> None:
        self._rules = {name: pack.rules for name, pack in packs.items()}
        self._ids = {rule.id for rules in self._rules.values() for rule in rules}
        self._compiled = {
            rules.rules: rules
            for book in compiled
            for profile in book.profiles.values()
            for rules in (profile.output, profile.input)
        }

    def profile(self, name: str, document: ProfileDocument, file: str) -> Profile:
        where = f"{file}: profile {name}"
        dry_run = document.dry_run
        output = self._actions(document.output, f"{where}: output", dry_run=dry_run)
        input_ = self._actions(document.input, f"{where}: input", dry_run=dry_run)
        return Profile(
            name=name,
            output=self._compile(output, where),
            input=self._compile(input_, where),
            output_actions=output,
            input_actions=input_,
            domains=document.domains,
            dry_run=dry_run,
        )

    def _actions(self, given: Mapping[str, str], where: str, *, dry_run: bool) -> dict[str, Action]:
        """In the order of the packs, which is the order of the rules in a filter."""
        for target in given:
            if target not in self._rules and target not in self._ids:
                raise RulesRefused(f'{where}: there is no pack or rule "{target}"')
        actions: dict[str, Action] = {}
        for pack, rules in self._rules.items():
            for rule in rules:
                word = given.get(rule.id, given.get(pack, "off"))
                if word != "off":
                    actions[rule.id] = Action.FLAG if dry_run else ACTIONS[word]
        return actions

    def _compile(self, actions: Mapping[str, Action], where: str) -> FilterRules:
        chosen = tuple(
            (rule, actions[rule.id])
            for rules in self._rules.values()
            for rule in rules
            if rule.id in actions
        )
        if chosen not in self._compiled:
            try:
                self._compiled[chosen] = FilterRules(chosen)
            except NOT_COMPILED as error:
                raise RulesRefused(f"{where}: {error}") from None
        return self._compiled[chosen]
