from collections.abc import Callable

import pytest
from click.testing import Result

from tests.integration.cli.answered import answered, given, listed, refused

Command = Callable[..., Result]

NOTHING = {"tokens_today": 0, "tokens_this_month": 0}


def test_every_limit_of_a_tenant_has_its_option(command: Command) -> None:
    limits = ("--rpm", "60", "--tpm", "1000", "--concurrency", "4")
    budgets = ("--tokens-per-day", "10000", "--tokens-per-month", "100000")
    tenant = answered(command("tenants", "set", "acme/all", *limits, *budgets, "--json"))
    assert (tenant["object"], tenant["name"], tenant["keys"]) == ("tenant", "acme/all", 0)
    assert tenant["limits"] == {
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "concurrency": 4,
        "tokens_per_day": 10_000,
        "tokens_per_month": 100_000,
    }
    shown = answered(command("tenants", "show", "acme/all", "--json"))
    assert shown == tenant | {"spent": NOTHING}


def test_a_set_changes_what_it_names_and_says_how_many_keys_it_concerns(command: Command) -> None:
    command("keys", "create", "--name", "x", "--tenant", "changed")
    command("tenants", "set", "changed", "--rpm", "60", "--concurrency", "4")
    result = command("tenants", "set", "changed", "--unset", "rpm", "--tokens-per-day", "7")
    assert result.stdout == "changed changed, which has 1 key\n"
    tenant = answered(command("tenants", "show", "changed", "--json"))
    assert given(tenant["limits"]) == {"concurrency": 4, "tokens_per_day": 7}
    mistyped = command("tenants", "set", "chnaged", "--rpm", "60")
    assert mistyped.stdout == "changed chnaged, which has 0 keys\n"


def test_a_person_sees_the_limits(command: Command) -> None:
    command("tenants", "set", "shown", "--concurrency", "4", "--tokens-per-month", "70")
    lines = command("tenants", "show", "shown").stdout.splitlines()
    assert lines[0].split() == ["name", "shown"]
    assert lines[lines.index("limits") + 1 :] == ["  concurrency: 4", "  tokens_per_month: 70"]
    head, first, *_ = command("tenants", "list").stdout.splitlines()
    assert head.split()[:4] == ["NAME", "KEYS", "RPM", "TPM"]
    assert first.split() == ["shown", "0", "-", "-", "4", "-", "70", "closed"]
    newest = listed(command("tenants", "list", "--json"))[0]
    shown = answered(command("tenants", "show", "shown", "--json"))
    assert shown == newest | {"spent": NOTHING}


def test_whether_a_tenant_is_served_without_an_audit_log_is_set_beside_its_limits(
    command: Command,
) -> None:
    command("tenants", "set", "open", "--rpm", "60")
    changed = answered(
        command("tenants", "set", "open", "--audit-on-failure", "open_metadata", "--json")
    )
    assert changed["audit_on_failure"] == "open_metadata"
    assert given(changed["limits"]) == {"requests_per_minute": 60}
    shown = command("tenants", "show", "open").stdout.splitlines()
    assert ["audit", "on", "failure", "open_metadata"] in [line.split() for line in shown]
    again = answered(command("tenants", "set", "open", "--rpm", "90", "--json"))
    assert again["audit_on_failure"] == "open_metadata"
    refused_value = command("tenants", "set", "open", "--audit-on-failure", "open")
    assert (refused_value.exit_code, "--audit-on-failure" in refused_value.stderr) == (2, True)


def test_the_settings_are_deleted_and_the_keys_stay(command: Command) -> None:
    key = answered(command("keys", "create", "--name", "x", "--tenant", "deleted", "--json"))
    command("tenants", "set", "deleted", "--rpm", "60")
    assert command("tenants", "delete", "deleted").stdout == "deleted the settings of deleted\n"
    assert answered(command("keys", "show", key["id"], "--json"))["revoked_at"] is None
    for verb in ("show", "delete"):
        result = command("tenants", verb, "deleted")
        assert result.exit_code == 1
        assert refused(result) == "The tenant 'deleted' has no settings of its own."


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("x",), "nothing to change: give a limit, --audit-on-failure or --unset"),
        (("a b", "--rpm", "1"), "NAME: string should match pattern"),
        (("x", "--rpm", "0"), "--rpm: input should be greater than or equal to 1"),
        (("x", "--unset", "models"), "--unset: 'models' is none of requests_per_minute, "),
        (
            ("x", "--tokens-per-day", "1", "--unset", "tokens-per-day"),
            "--unset: tokens_per_day is set by --tokens-per-day as well",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    command: Command, arguments: tuple[str, ...], line: str
) -> None:
    result = command("tenants", "set", *arguments)
    assert result.exit_code == 2
    assert refused(result).startswith(line)
    assert command("tenants", "show", arguments[0]).exit_code == 1
