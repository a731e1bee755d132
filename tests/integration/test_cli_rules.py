import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.rules import MAX_TEXT_BYTES, rules

OWN = """
pack: acme
description: Ours.
rules:
  - id: ticket
    description: Support tickets.
    pattern: 'ACME-[0-9]{4}'
    matches: [see ACME-1234]
  - id: name
    phrases: [blue heron]
profiles:
  strict:
    output: {acme: block}
  mixed:
    output: {acme: mask, acme.name: flag, secrets: mask}
    input: {acme: refuse}
    domains: {medical: annotate}
  trial:
    output: {acme: block}
    dry_run: true
"""
TEXT = "The Blue Heron has ACME-1234."


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


def run(*arguments: str | Path, **options: object) -> Result:
    """`gateway rules ...`, with no database, no workers and no settings."""
    result = CliRunner().invoke(rules, [str(argument) for argument in arguments], **options)  # type: ignore[arg-type]  # click's own
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def printed(*arguments: str | Path, **options: object) -> str:
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.stdout


def on_a_terminal(*arguments: str | Path, **variables: str) -> str:
    """What the command writes to a real terminal."""
    controller, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [Path(sys.executable).with_name("gateway"), "rules", *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment | variables,
    ) as process:
        os.close(terminal)
        chunks: list[bytes] = []
        while chunk := _read(controller):
            chunks.append(chunk)
        assert process.wait() == 0, chunks
    os.close(controller)
    return b"".join(chunks).decode()


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65_536)
    except OSError:  # Linux says so when nobody holds the terminal any more
        return b""


def test_a_good_file_is_told_with_what_each_rule_holds_back(own: Path) -> None:
    lines = printed("test", own).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["acme.ticket", "acme.name", "ok:"]
    assert "holds back at most" in lines[0]
    assert lines[0].endswith(" characters")
    assert lines[2] == "ok: 2 rules, 3 profiles"


def test_a_bad_file_ends_with_one_line_that_says_where(own: Path) -> None:
    own.write_text(OWN.replace("{4}", "+"))
    result = run("test", own)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: own.yaml: rule ticket: pattern: ")
    assert result.stdout == ""


def test_a_failing_example_refuses_the_file(own: Path) -> None:
    own.write_text(OWN.replace("see ACME-1234", "see ACME-12"))
    result = run("test", own)
    assert result.exit_code == 1
    assert "rule ticket: matches[0]" in result.stderr


def test_own_rules_mask_where_no_profile_is_named(own: Path) -> None:
    out = printed("test", own, "--text", TEXT + " sk_live_not_tried")
    assert out.splitlines() == [
        "The [-Blue Heron-]{acme.name} has [-ACME-1234-]{acme.ticket}. sk_live_not_tried",
        "",
        "RULE         ACTION  CHARACTERS",
        "acme.name    mask    4-14",
        "acme.ticket  mask    19-28",
    ]


def test_a_profile_says_what_becomes_of_each_match(own: Path) -> None:
    out = printed("test", own, "--text", TEXT, "--profile", "mixed")
    assert out.startswith("The [=Blue Heron=]{acme.name} has [-ACME-1234-]{acme.ticket}.\n")
    assert "acme.name    flag" in out


def test_a_block_cuts_all_that_follows(own: Path) -> None:
    out = printed("test", own, "--text", TEXT, "--profile", "strict")
    assert out.startswith("The [-Blue Heron has ACME-1234.-]{acme.name}\n")


def test_a_dry_run_says_that_it_cuts_nothing(own: Path) -> None:
    out = printed("test", own, "--text", TEXT, "--profile", "trial")
    assert out.startswith("trial is a dry run: nothing is cut\nThe [=Blue Heron=]{acme.name}")


def test_text_may_come_from_standard_input(own: Path) -> None:
    out = printed("test", own, "--text", "-", input=b"\xff ACME-1234\n")
    assert out.startswith("\\udcff [-ACME-1234-]{acme.ticket}\n")
    too_long = run("test", own, "--text", "-", input=b"a" * (MAX_TEXT_BYTES + 1))
    assert too_long.exit_code == 2
    assert "more than 1048576 bytes" in too_long.stderr


def test_text_without_a_match_is_printed_as_it_is(own: Path) -> None:
    out = printed("test", own, "--text", "nothing\tof\nours")
    assert out == "nothing\tof\nours\n\nnothing found\n"


def test_what_is_cut_with_a_match_is_marked_too(own: Path) -> None:
    own.write_text("pack: acme\nrules: [{id: key, pattern: 'key_[a-z]{4}', then: '[a-z]'}]")
    out = printed("test", own, "--text", "key_abcdefgh!")
    assert out.startswith("[-key_abcdefgh-]{acme.key}!\n")
    assert out.endswith("  0-12\n")


def test_a_text_cannot_steer_the_terminal(own: Path) -> None:
    out = printed("test", own, "--text", "\x1b[2J\u202eACME-1234\r\x07")
    assert out.startswith("\\x1b[2J\\u202e[-ACME-1234-]{acme.ticket}\\r\\x07\n")


def test_a_terminal_gets_colours_and_no_marks(own: Path) -> None:
    out = on_a_terminal("test", own, "--text", TEXT)
    assert "\x1b[31m\x1b[9mACME-1234\x1b[0m." in out
    assert "[-" not in out


def test_a_terminal_without_colour_gets_marks(own: Path) -> None:
    out = on_a_terminal("test", own, "--text", TEXT, NO_COLOR="anything")
    assert "has [-ACME-1234-]{acme.ticket}." in out
    assert "\x1b" not in out


def test_a_file_of_profiles_alone_needs_one_to_be_named(own: Path) -> None:
    own.write_text("profiles: {quiet: {output: {secrets: flag}}}")
    assert printed("test", own) == "ok: 0 rules, 1 profile\n"
    result = run("test", own, "--text", TEXT)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --profile: ")
    assert "nothing found" in printed("test", own, "--text", TEXT, "--profile", "quiet")


def test_an_unknown_profile_is_answered_with_the_known_ones(own: Path) -> None:
    result = run("test", own, "--text", TEXT, "--profile", "nobody")
    assert result.exit_code == 2
    assert "mixed, trial" in result.stderr


def test_all_rules_are_listed_with_what_a_profile_does(own: Path) -> None:
    lines = printed("list", "--rules", own, "--profile", "mixed").splitlines()
    assert lines[0].split() == ["RULE", "ANSWERS", "PROMPTS", "HOLDS", "DESCRIPTION"]
    by_rule = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert by_rule["acme.ticket"][:2] == ["mask", "refuse"]
    assert by_rule["acme.ticket"][3:] == ["Support", "tickets."]
    assert by_rule["acme.name"][:2] == ["flag", "refuse"]
    assert by_rule["personal-data.email"][:2] == ["off", "off"]
    assert lines[-1] == "domains  medical: annotate"


def test_what_ships_is_listed_without_any_file() -> None:
    lines = printed("list").splitlines()
    assert any(line.startswith("secrets.") and " mask " in line for line in lines)
    assert all(int(line.split()[3]) > 0 for line in lines[1:])
