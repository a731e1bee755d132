"""What the documents say is there: pages, sections, commands, options, settings."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from app.cli import main
from app.settings import SECRETS, Settings

ROOT = Path(__file__).parents[2]
PLACES = ("*.md", "docs/**/*.md", "bench/*.md", "deploy/**/*.md", "requirements/*.md")
PAGES = sorted(page for place in PLACES for page in ROOT.glob(place))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# What a person sets and the settings do not read: the SDK's key of `gateway smoke`, the tests' own.
OTHER_VARIABLES = {"CONFIG", "SMOKE_API_KEY", "TEST_DATABASE_URL", "TEST_REDIS_URL"}

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_VARIABLE = re.compile(r"\bGATEWAY_([A-Z][A-Z0-9_]+)\b")
_COMMAND = re.compile(
    r"(?:^ {4}|^\$ |`)(?:[A-Z_]+=\S+ )*gateway ((?:[a-z-]+)(?: [^`\n#]*)?)", re.MULTILINE
)
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")


def _prose(text: str) -> str:
    return _CODE.sub("", _FENCE.sub("", text))


def _anchors(page: Path) -> set[str]:
    """Of each heading, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def _links(page: Path) -> Iterator[tuple[str, Path, str]]:
    for link in _LINK.findall(_prose(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        yield link, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link, target, anchor in _links(page):
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = (target for _, target, _ in _links(page))
        ahead += [target for target in targets if target.suffix == ".md" and target.exists()]
        ahead += [  # a link to a folder shows its pages
            inner for target in {t for _, t, _ in _links(page)} if target.is_dir()
            for inner in target.rglob("*.md")
        ]  # fmt: skip
    left = [name for name, page in zip(NAMES, PAGES, strict=True) if page.resolve() not in seen]
    assert [name for name in left if not name.startswith("docs/decisions/")] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_exist(page: Path) -> None:
    known = {name.upper() for name in Settings.model_fields}
    known |= {f"{name.upper()}_FILE" for name in SECRETS} | OTHER_VARIABLES
    named = set(_VARIABLE.findall(page.read_text()))
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_their_options_exist(page: Path) -> None:
    for line in _COMMAND.findall(page.read_text()):
        command, rest = _resolve(line)
        options = {name for parameter in command.params for name in parameter.opts}
        options |= {name for parameter in command.params for name in parameter.secondary_opts}
        assert set(_OPTION.findall(rest)) - options - {"--help", "--version"} == set(), line


def _resolve(line: str) -> tuple[click.Command, str]:
    """The command of a line, and what stands behind it. Of `list | show ID` the first."""
    words = line.split()
    command: click.Command = main
    while isinstance(command, click.Group) and words and re.match(r"[a-z]", words[0]):
        word = words.pop(0)
        assert word in command.commands, line
        command = command.commands[word]
    return command, " ".join(words).split("|")[0].split("&&")[0]
