"""Ordinary prose and code that was not written for these rules: the standard library's own.

The modules stand in every Python from 3.11 on, and are read in this order, whole: their docstrings
and comments are the prose, the rest is the code.
"""

import sysconfig
from collections import Counter
from pathlib import Path

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action
from app.protocol.filters.text_filter import TextFilter
from tests.rules.shipped import PACKS, document, shipped_rules

MODULES = (
    "abc", "argparse", "ast", "asyncio.base_events", "asyncio.queues", "asyncio.streams", "bdb",
    "bisect", "calendar", "cmd", "code", "codecs", "collections", "colorsys", "compileall",
    "concurrent.futures.thread", "configparser", "contextlib", "copy", "csv", "ctypes.util",
    "dataclasses", "difflib", "dis", "doctest", "email.message", "email.utils", "enum", "filecmp",
    "fractions", "ftplib", "functools", "getpass", "gettext", "gzip", "hashlib", "heapq", "hmac",
    "html.parser", "http.client", "http.cookiejar", "http.server", "imaplib", "inspect",
    "ipaddress", "json.decoder", "json.encoder", "logging", "logging.config", "logging.handlers",
    "mailbox",
    "mimetypes", "netrc", "numbers", "optparse", "os", "pdb", "pickle", "pickletools", "plistlib",
    "poplib", "pprint", "profile", "pydoc", "queue", "random", "sched", "secrets", "selectors",
    "shlex", "shutil", "smtplib", "socket", "socketserver", "ssl", "statistics", "string",
    "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback",
    "turtle", "typing", "unittest.case", "unittest.mock", "urllib.parse", "urllib.request", "uuid",
    "warnings", "weakref", "webbrowser", "wsgiref.handlers", "xml.dom.minidom", "xmlrpc.client",
)  # fmt: skip
FEWEST_LINES = 10_000
# Of all lines, and all of these are addresses of mail: most of authors, some of examples.
MOST_MASKED = 0.001


def sources() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    texts = []
    for name in MODULES:
        path = library.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        texts.append(file.read_text("utf-8"))
    return texts


def lines_hit() -> tuple[int, Counter[str], list[str]]:
    """How many lines with something on them there are; by rule, on how many it finds something;
    and what it finds."""
    rules = FilterRules([(rule, Action.MASK) for rule in shipped_rules().values()])
    lines = 0
    counted: Counter[str] = Counter()
    found: list[str] = []
    for text in sources():
        lines += sum(bool(line.strip()) for line in text.splitlines())
        text_filter = TextFilter(rules)
        text_filter.feed(text)
        text_filter.close()
        places = {(hit.rule, text.count("\n", 0, hit.start)) for hit in text_filter.hits}
        counted.update(rule_id for rule_id, _ in places)
        found += [f"{hit.rule}: {text[hit.start : hit.end][:80]}" for hit in text_filter.hits]
    return lines, counted, found


def acting(action: str) -> set[str]:
    """The rules that some shipped profile gives this action on answers."""
    found = set()
    for profile in document("profiles")["profiles"].values():
        output = profile.get("output", {})
        for rule_id in shipped_rules():
            pack = rule_id.partition(".")[0]
            assert pack in PACKS
            if output.get(rule_id, output.get(pack, "off")) == action:
                found.add(rule_id)
    return found


def test_the_standard_library_is_hardly_ever_masked_and_never_blocked() -> None:
    lines, counted, found = lines_hit()
    assert lines >= FEWEST_LINES
    blocking = acting("block")
    assert blocking
    assert sum(counted[rule_id] for rule_id in blocking) == 0, found
    masked = sum(counted[rule_id] for rule_id in acting("mask"))
    assert masked < MOST_MASKED * lines, found
