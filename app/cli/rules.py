"""`gateway rules`: what is looked for in answers and prompts, and trying it out."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import regex

from app.cli.errors import BadUsage, fail
from app.cli.marked_text import marked
from app.cli.table import table
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.fold import cap_invisible
from app.protocol.filters.rule import Action, Hit
from app.protocol.filters.text_filter import TextFilter
from app.rules.document import RulesRefused
from app.rules.load import load, shipped
from app.rules.rulebook import Pack, Profile, Rulebook, UnknownProfile

DEFAULT_PROFILE = "default"
MAX_TEXT_BYTES = 1024 * 1024  # of a text to try rules on: it is printed to be read


@click.group()
def rules() -> None:
    """Check, try and list the rules that answers and prompts are filtered by."""


@rules.command("test")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--text", metavar="TEXT", help="Print what would be cut of it; - reads it from stdin."
)
@click.option(
    "--profile", "profile_name", metavar="NAME", help="Cut what this profile cuts of an answer."
)
# https://no-color.org; a variable of the terminal's, not a setting of ours.
@click.option("--no-color", metavar="ANY", envvar="NO_COLOR", hidden=True)
def test_rules(
    path: Path, *, text: str | None, profile_name: str | None, no_color: str | None
) -> None:
    """Check FILE, or the *.yaml of a directory: packs, profiles and the rules' examples.

    Without --profile, every rule of FILE masks, and those that ship are left out.
    """
    rulebook = _load(path)
    own = [pack for name, pack in rulebook.packs.items() if name not in shipped().packs]
    if text is None:
        for pack in own:
            for rule_id in pack.descriptions:
                held = _held(pack, rule_id)
                click.echo(f"{rule_id}  holds back at most {held} characters")
        _echo_counts(rulebook, own)
        return
    if profile_name is not None:
        profile = _profile(rulebook, profile_name)
        compiled = profile.output
        if profile.dry_run:
            click.echo(f"{profile.name} is a dry run: nothing is cut")
    elif own:
        compiled = FilterRules([(rule, Action.MASK) for pack in own for rule in pack.rules])
    else:
        raise BadUsage(f"--profile: {path} has no rules of its own; name a profile to try")
    _echo_tried(_text(text), compiled, coloured=sys.stdout.isatty() and not no_color)


@rules.command("list")
@click.option(
    "--rules",
    "path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A file or a directory with rules and profiles of your own.",
)
@click.option("--profile", "profile_name", default=DEFAULT_PROFILE, show_default=True)
def list_rules(*, path: Path | None, profile_name: str) -> None:
    """List all rules: what a profile does about them, and how many characters of a stream each
    may hold back."""
    rulebook = _load(path)
    profile = _profile(rulebook, profile_name)
    rows = [
        (
            rule_id,
            profile.output_actions.get(rule_id, "off"),
            _of_prompts(profile.input_actions.get(rule_id)),
            _held(pack, rule_id),
            description,
        )
        for pack in rulebook.packs.values()
        for rule_id, description in pack.descriptions.items()
    ]
    click.echo(table(("RULE", "ANSWERS", "PROMPTS", "HOLDS", "DESCRIPTION"), rows))
    if profile.domains:
        named = ", ".join(f"{domain}: {action}" for domain, action in profile.domains.items())
        click.echo(f"domains  {named}")
    if profile.dry_run:
        click.echo("dry run: nothing is changed, everything is counted")


def _load(path: Path | None) -> Rulebook:
    try:
        return load(path)
    except RulesRefused as error:
        fail(str(error))


def _profile(rulebook: Rulebook, name: str) -> Profile:
    try:
        return rulebook.profile(name)
    except UnknownProfile:
        known = ", ".join(rulebook.profiles)
        raise BadUsage(f"--profile: there is none of this name; there are {known}") from None


def _held(pack: Pack, rule_id: str) -> int:
    """Characters as a reader sees them: disguised, each may be many more."""
    return max(rule.bound for rule in pack.rules if rule.id == rule_id)


def _of_prompts(action: Action | None) -> str:
    if action is None:
        return "off"
    return "refuse" if action is Action.BLOCK else action.value


def _echo_counts(rulebook: Rulebook, own: Sequence[Pack]) -> None:
    rules = sum(len(pack.descriptions) for pack in own)
    profiles = sum(
        profile is not shipped().profiles.get(name) for name, profile in rulebook.profiles.items()
    )
    click.echo(f"ok: {_count(rules, 'rule')}, {_count(profiles, 'profile')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _text(given: str) -> str:
    if given != "-":
        return given
    content = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise BadUsage(f"--text: more than {MAX_TEXT_BYTES} bytes")
    return content.decode("utf-8", "surrogateescape")  # shown as escapes


def _echo_tried(text: str, compiled: FilterRules, *, coloured: bool) -> None:
    text, _ = cap_invisible(text, 0)  # places are counted in what is left
    text_filter = TextFilter(compiled)
    text_filter.feed(text)
    text_filter.close()
    following = {rule.id: rule.then for rule, _ in compiled.rules}
    hits = [_with_what_follows(hit, following[hit.rule], text) for hit in text_filter.hits]
    click.echo(marked(text, hits, coloured=coloured))
    click.echo()
    if hits:
        click.echo(table(("RULE", "ACTION", "CHARACTERS"), map(_row, hits)))
    else:
        click.echo("nothing found")


def _with_what_follows(hit: Hit, then: str | None, text: str) -> Hit:
    """A mask goes on over the characters of its rule's class."""
    if then is None or hit.action is not Action.MASK:
        return hit
    match = regex.compile(f"(?:{then})*+").match(text, hit.end)
    return hit if match is None else replace(hit, end=match.end())


def _row(hit: Hit) -> tuple[str, str, str]:
    return hit.rule, hit.action.value, f"{hit.start}-{hit.end}"
