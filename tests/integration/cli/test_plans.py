from collections.abc import Callable

import pytest
from click.testing import Result

from tests.integration.cli.answered import answered, given, listed, refused

Command = Callable[..., Result]


def made(command: Command, name: str, *options: str) -> None:
    assert command("plans", "create", name, *options).stdout == f"created {name}\n"


def key_of(command: Command, plan: str, *options: str) -> str:
    key = answered(command("keys", "create", "--name", "x", "--plan", plan, *options, "--json"))
    assert key["plan"] == plan
    return str(key["id"])


def test_a_plan_is_made_of_the_options_of_a_policy(command: Command) -> None:
    options = ("--rpm", "60", "--tokens-per-day", "1000", "--model", "qwythos", "--tool", "read_*")
    plan = answered(command("plans", "create", "gold", *options, "--json"))
    assert (plan["object"], plan["name"], plan["keys"]) == ("plan", "gold", 0)
    assert given(plan["policy"]) == {
        "requests_per_minute": 60,
        "tokens_per_day": 1000,
        "models": ["qwythos"],
        "tools": [{"name": "read_*", "arguments": {}}],
    }
    assert answered(command("plans", "show", "gold", "--json")) == plan
    assert refused(command("plans", "create", "gold")).startswith("There is a plan with the name")


def test_a_plan_is_shown_with_its_policy_and_how_many_keys_refer_to_it(command: Command) -> None:
    made(command, "shown", "--rpm", "60", "--reasoning", "visible")
    key_of(command, "shown")
    key_of(command, "shown")
    lines = command("plans", "show", "shown").stdout.splitlines()
    assert lines[0].split() == ["name", "shown"]
    assert lines[1].split() == ["keys", "2"]
    assert lines[lines.index("policy") + 1 :] == [
        "  requests_per_minute: 60",
        "  reasoning: visible",
    ]


def test_plans_are_listed_newest_first(command: Command) -> None:
    made(command, "older", "--rpm", "60")
    made(command, "newer", "--concurrency", "2", "--tokens-per-month", "9")
    names = [plan["name"] for plan in listed(command("plans", "list", "--json"))]
    assert names[:2] == ["newer", "older"]
    head, first, *_ = command("plans", "list").stdout.splitlines()
    assert head.split() == ["NAME", "KEYS", "CREATED", "CHANGED", "SETS"]
    assert first.split()[:2] == ["newer", "0"]
    assert first.split()[-2:] == ["concurrency", "tokens_per_month"]


def test_a_set_changes_what_it_names_for_all_keys(command: Command) -> None:
    made(command, "changed", "--rpm", "60", "--tpm", "1000", "--concurrency", "4")
    key = key_of(command, "changed", "--concurrency", "1")
    changes = ("--rpm", "90", "--unset", "tokens_per_minute", "--max-cold-prefill-tokens", "5")
    assert command("plans", "set", "changed", *changes).stdout == "changed changed\n"
    plan = answered(command("plans", "show", "changed", "--json"))
    assert given(plan["policy"]) == {
        "requests_per_minute": 90,
        "concurrency": 4,
        "max_cold_prefill_tokens": 5,
    }
    shown = answered(command("keys", "show", key, "--json"))
    assert given(shown["policy"]) == {"concurrency": 1}
    assert given(shown["effective_policy"]) == given(plan["policy"]) | {"concurrency": 1}


def test_a_field_is_taken_away_by_its_own_name_or_its_options(command: Command) -> None:
    made(command, "unset", "--concurrency", "1")
    for name in ("requests_per_minute", "rpm", "--rpm", "requests-per-minute"):
        command("plans", "set", "unset", "--rpm", "60")
        changed = answered(command("plans", "set", "unset", "--unset", name, "--json"))
        assert given(changed["policy"]) == {"concurrency": 1}, name


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("set", "gold"), "nothing to change: give an option of a policy or --unset"),
        (
            ("set", "gold", "--unset", "colour"),
            "--unset: 'colour' is none of requests_per_minute, ",
        ),
        (("set", "gold", "--unset", "\x1b[2J"), "--unset: '\\x1b[2J' is none of "),
        (
            ("set", "gold", "--rpm", "1", "--unset", "rpm"),
            "--unset: requests_per_minute is set by --rpm as well",
        ),
        (("set", "gold", "--rpm", "0"), "--rpm: input should be greater than or equal to 1"),
        (("set", "gold", "--tokens-per-day", "0"), "--tokens-per-day: input should be greater"),
        (("create", "No Such"), "NAME: string should match pattern"),
        (("create", "x" * 49), "NAME: string should match pattern"),
        (("create", "x", "--tokens-per-month", "-1"), "--tokens-per-month: input should be "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    command: Command, arguments: tuple[str, ...], line: str
) -> None:
    result = command("plans", *arguments)
    assert result.exit_code == 2
    assert refused(result).startswith(line)


@pytest.mark.parametrize("verb", ["show", "delete", "set"])
def test_an_unknown_plan_ends_with_one_line(command: Command, verb: str) -> None:
    options = ("--rpm", "1") if verb == "set" else ()
    result = command("plans", verb, "none", *options)
    assert result.exit_code == 1
    assert refused(result) == "There is no plan with the name 'none'."


def test_a_plan_is_deleted_once_no_key_refers_to_it(command: Command) -> None:
    made(command, "deleted")
    ids = [key_of(command, "deleted") for _ in range(3)]
    assert refused(command("plans", "delete", "deleted")) == (
        "The plan 'deleted' cannot be deleted: 3 keys refer to it."
    )
    command("keys", "revoke", ids[0])
    for key_id in ids[1:]:
        assert command("keys", "set", key_id, "--no-plan").exit_code == 0
    assert command("plans", "delete", "deleted").stdout == "deleted deleted\n"
    assert command("plans", "show", "deleted").exit_code == 1
