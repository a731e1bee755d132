"""The options of `gateway keys create` that make the key's policy, and its file of tools."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.policy_options import MAX_TOOLS_FILE_BYTES
from app.store.policy import Policy
from tests.integration.cli.key_commands import Run, created


def policy(key: dict[str, Any]) -> dict[str, Any]:
    """Those of its fields that are set."""
    return {name: value for name, value in key["policy"].items() if value is not None}


def test_every_field_of_the_policy_has_its_option(run: Run, tmp_path: Path) -> None:
    rules = [{"name": "read_*", "arguments": {"path": "/srv/.*"}}]
    key = created(
        run,
        *("--name", "backend", "--rpm", "60", "--tpm", "1000", "--concurrency", "4"),
        *("--max-output-tokens", "512", "--model", "qwythos"),
        *("--reasoning", "visible", "--reasoning-content", "--unreadable-reasoning", "refuse"),
        *("--think-in-answer", "show", "--max-thinking-tokens", "2048", "--salvage-tokens", "256"),
        *("--max-messages", "100", "--max-prompt-characters", "50000"),
        *("--tokens-per-day", "10000", "--tokens-per-month", "100000"),
        *("--max-cold-prefill-tokens", "60000"),
        *("--cold-sampling", "refuse"),
        *("--engine-parameter", "seed", "--engine-parameter", "top_k"),
        *("--tool", "get_weather", "--tools-file", rules_in(tmp_path, json.dumps(rules))),
        *("--filter-profile", "strict", "--domain", "medical=annotate", "--domain", "law=refuse"),
        *("--audit", "full+reasoning"),
        *("--priority", "batch", "--worker-tag", "eu", "--worker-tag", "gold"),
        *("--finish-after-leaving-seconds", "90"),
    )
    assert policy(key).keys() == Policy.model_fields.keys()
    chosen = {name: value for name, value in policy(key).items() if name not in LIMITS}
    assert chosen == {
        "models": ["qwythos"],
        "reasoning": "visible",
        "reasoning_content": True,
        "unreadable_reasoning": "refuse",
        "think_in_answer": "show",
        "max_thinking_tokens": 2048,
        "salvage_tokens": 256,
        "cold_sampling": "refuse",
        "engine_parameters": ["seed", "top_k"],
        "tools": [{"name": "get_weather", "arguments": {}}, *rules],
        "filter_profile": "strict",
        "domains": {"medical": "annotate", "law": "refuse"},
        "audit": "full+reasoning",
        "priority": "batch",
        "worker_tags": ["eu", "gold"],
        "finish_after_leaving_seconds": 90,
    }


LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrency",
    "tokens_per_day",
    "tokens_per_month",
    "max_cold_prefill_tokens",
    "max_output_tokens",
    "max_messages",
    "max_prompt_characters",
)


def rules_in(directory: Path, text: str) -> str:
    path = directory / "tools.json"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_flag_can_be_turned_off_by_name(run: Run) -> None:
    key = created(run, "--name", "backend", "--no-reasoning-content")
    assert policy(key) == {"reasoning_content": False}


def test_a_file_without_rules_allows_no_tool(run: Run, tmp_path: Path) -> None:
    key = created(run, "--name", "backend", "--tools-file", rules_in(tmp_path, "[]"))
    assert policy(key) == {"tools": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", ": invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("[" * 10_000, ": invalid JSON: recursion limit exceeded"),
        ('{"name": "x"}', ": input should be a valid array"),
        ('["x"]', ": [0]: input should be an object"),
        ('[{"arguments": {}}]', ": [0].name: field required"),
        ('[{"name": "x"}, {"name": "a b"}]', ": [1].name: is not a glob of tool names"),
        ('[{"name": "x", "args": {}}]', ": [0].args: extra inputs are not permitted"),
        (
            '[{"name": "x", "arguments": {"p": "("}}]',
            ": [0].arguments.p: is not a regular expression: ",
        ),
        (
            '[{"name": "x", "arguments": {"p": "(?=a)"}}]',
            ": [0].arguments.p: is not a regular expression for policies: look-around",
        ),
        ('[{"name": "x", "arguments": {"\\u001b[2J": 1}}]', ": [0].arguments.\\x1b[2J: "),
        (json.dumps([{"name": "x"}] * 257), ": tuple should have at most 256 items"),
        (" " * (MAX_TOOLS_FILE_BYTES + 1), " has more than 1048576 bytes"),
    ],
)
def test_what_is_wrong_in_a_file_of_rules_is_named_in_one_line(
    run: Run, tmp_path: Path, text: str, reason: str
) -> None:
    path = rules_in(tmp_path, text)
    result = run("create", "--name", "x", "--tools-file", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: --tools-file: {path}{reason}")
    assert len(result.stderr.splitlines()) == 1


def test_a_file_of_rules_that_cannot_be_read_is_named(run: Run, tmp_path: Path) -> None:
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "none.json", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (binary, "invalid JSON"),
    ):
        result = run("create", "--name", "x", "--tools-file", str(path))
        assert result.exit_code == 2
        assert str(path) in result.stderr
        assert reason in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_many_rules_in_all_are_named_by_the_option_they_came_with(run: Run, tmp_path: Path) -> None:
    globs = [part for number in range(2) for part in ("--tool", f"tool_{number}")]
    path = rules_in(tmp_path, json.dumps([{"name": "x"}] * 255))
    result = run("create", "--name", "x", *globs, "--tools-file", path)
    assert result.stderr == "error: --tools-file: tuple should have at most 256 items after " + (
        "validation, not 257\n"
    )
