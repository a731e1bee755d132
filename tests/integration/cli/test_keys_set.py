"""`gateway keys set`, and what is shown of a key that has a plan."""

from collections.abc import Callable

import pytest
from click.testing import Result

from tests.integration.cli.answered import answered, given, refused

Command = Callable[..., Result]


@pytest.fixture
def key_id(command: Command) -> str:
    options = ("--rpm", "60", "--concurrency", "4", "--model", "qwythos")
    key = answered(command("keys", "create", "--name", "backend", *options, "--json"))
    return str(key["id"])


def test_only_what_is_named_changes(command: Command, key_id: str) -> None:
    changes = ("--rpm", "90", "--unset", "model", "--no-reasoning-content")
    assert command("keys", "set", key_id, *changes).stdout == f"changed {key_id}\n"
    key = answered(command("keys", "show", key_id, "--json"))
    assert key["name"] == "backend"
    assert given(key["policy"]) == {
        "requests_per_minute": 90,
        "concurrency": 4,
        "reasoning_content": False,
    }


def test_a_plan_is_given_and_taken_away(command: Command, key_id: str) -> None:
    command("plans", "create", "given", "--tokens-per-day", "1000", "--rpm", "9")
    key = answered(command("keys", "set", key_id, "--plan", "given", "--json"))
    assert key["plan"] == "given"
    assert given(key["effective_policy"]) == given(key["policy"]) | {"tokens_per_day": 1000}
    row = next(line for line in command("keys", "list").stdout.splitlines() if key_id in line)
    assert row.split()[3] == "given"
    both = answered(command("keys", "set", key_id, "--no-plan", "--unset", "rpm", "--json"))
    assert (both["plan"], both["policy"]["requests_per_minute"]) == (None, None)


def test_a_key_with_a_plan_is_shown_with_both_policies(command: Command) -> None:
    command("plans", "create", "both", "--tokens-per-day", "1000", "--concurrency", "9")
    create = ("keys", "create", "--name", "x", "--plan", "both")
    own = answered(command(*create, "--concurrency", "2", "--json"))
    lines = command("keys", "show", own["id"]).stdout.splitlines()
    assert ["plan", "both"] in [line.split() for line in lines]
    assert lines[lines.index("policy") :] == [
        "policy",
        "  concurrency: 2",
        "effective policy",
        "  concurrency: 2",
        "  tokens_per_day: 1000",
    ]
    plain = command(*create).stdout
    assert ["plan", "both"] in [line.split() for line in plain.splitlines()]
    plain_id = plain.splitlines()[0].split()[1]
    assert (
        "policy\n  as the plan says\neffective policy\n" in command("keys", "show", plain_id).stdout
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "nothing to change: give --plan, --no-plan, --unset or an option of a policy"),
        (("--plan", "x", "--no-plan"), "--plan and --no-plan exclude each other"),
        (("--unset", "plan"), "--unset: 'plan' is none of "),
        (("--rpm", "0"), "--rpm: input should be greater than or equal to 1"),
        (("--max-cold-prefill-tokens", "0"), "--max-cold-prefill-tokens: input should be "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    command: Command, key_id: str, options: tuple[str, ...], line: str
) -> None:
    result = command("keys", "set", key_id, *options)
    assert result.exit_code == 2
    assert refused(result).startswith(line)


def test_an_unknown_plan_or_key_ends_with_one_line(command: Command, key_id: str) -> None:
    for arguments, line in (
        (("set", key_id, "--plan", "none"), "There is no plan with the name 'none'."),
        (("create", "--name", "x", "--plan", "none"), "There is no plan with the name 'none'."),
        (("set", "key_none", "--rpm", "1"), "There is no API key with the id 'key_none'."),
    ):
        result = command("keys", *arguments)
        assert result.exit_code == 1
        assert refused(result) == line
    assert refused(command("keys", "create", "--name", "x", "--plan", "No Such")).startswith(
        "--plan:"
    )


def test_a_revoked_key_is_changed_no_more(command: Command, key_id: str) -> None:
    command("keys", "revoke", key_id)
    assert refused(command("keys", "set", key_id, "--rpm", "1")) == (
        f"The key {key_id} is revoked, for ever."
    )
