"""What a policy may say, and that no stored one is read more leniently than it was meant."""

import pytest
from pydantic import ValidationError

from app.errors import InternalError
from app.store.policy import MAX_PATTERNS, AllowedTool, Limits, Policy, Reasoning
from app.store.stored_policy import effective_policy, limits_from_store, policy_from_store


def test_a_policy_stored_before_a_field_existed_loads_without_it() -> None:
    stored = {"models": ["qwythos"], "requests_per_minute": 60, "concurrency": None}
    expected = Policy(models=("qwythos",), requests_per_minute=60)
    assert policy_from_store(stored, "key x") == expected
    assert policy_from_store({}, "key x") == Policy()
    assert limits_from_store({}, "tenant x") == Limits()


def test_a_policy_comes_back_from_its_json_as_it_was() -> None:
    policy = Policy(
        reasoning=Reasoning.SEALED,
        reasoning_content=False,
        engine_parameters=(),
        tools=(AllowedTool(name="read_*", arguments={"path": r"/srv/[^/]+\.txt"}),),
    )
    stored = policy.model_dump(mode="json", exclude_none=True)
    assert stored.keys() == {"reasoning", "reasoning_content", "engine_parameters", "tools"}
    assert policy_from_store(stored, "key x") == policy


@pytest.mark.parametrize(
    "stored",
    [
        {"only_on_sundays": True},
        {"reasoning": "whispered"},
        {"cold_sampling": "melt"},
        {"engine_parameters": ["n_sigma"]},
        {"tools": [{"name": "x", "on": "sundays"}]},
    ],
)
def test_what_a_newer_version_wrote_is_not_read_at_all(stored: dict[str, object]) -> None:
    with pytest.raises(InternalError, match="policy of the plan gold"):
        policy_from_store(stored, "plan gold")


@pytest.mark.parametrize("stored", [{"tokens_per_year": 1}, {"models": []}, {"concurrency": 0}])
def test_limits_that_a_newer_version_wrote_are_not_read_at_all(stored: dict[str, object]) -> None:
    with pytest.raises(InternalError, match="limits of the tenant acme"):
        limits_from_store(stored, "tenant acme")


def test_a_key_wins_over_its_plan_field_by_field() -> None:
    own = Policy(concurrency=2, reasoning_content=False, tools=(), domains={"law": "refuse"})
    plan = Policy(
        concurrency=8,
        tokens_per_day=1000,
        reasoning_content=True,
        tools=(AllowedTool(name="*"),),
        domains={"medical": "refuse"},
    )
    assert effective_policy(own, plan) == Policy(
        concurrency=2,
        tokens_per_day=1000,
        reasoning_content=False,
        tools=(),
        domains={"law": "refuse"},
    )
    assert effective_policy(Policy(), plan) == plan
    assert effective_policy(own, Policy()) == own
    assert effective_policy(own, None) is own


def test_what_is_named_as_none_leaves_the_field_to_the_plan() -> None:
    own = Policy.model_validate({"tokens_per_day": None, "models": None})
    assert effective_policy(own, Policy(tokens_per_day=5)) == Policy(tokens_per_day=5)


@pytest.mark.parametrize("glob", ["*", "get_weather", "mcp-?_*", "read_[a-z]*", "[!a-z]*", "X9"])
def test_a_glob_of_tool_names_is_taken(glob: str) -> None:
    assert AllowedTool(name=glob).name == glob


@pytest.mark.parametrize(
    "glob", ["", "a b", "a.b", "read_[a-z", "]", "[]", "a\n", "\u00e9", "x" * 65]
)
def test_what_can_match_no_tool_is_no_glob(glob: str) -> None:
    with pytest.raises(ValidationError):
        AllowedTool(name=glob)


@pytest.mark.parametrize(
    "pattern",
    [r"/srv/[^/]+", r"(?i)yes|no", r"[\w.-]+\.example\.com", "", r"\d{1,4}", r"(?s).*", "a" * 512],
)
def test_a_pattern_is_taken_as_it_is(pattern: str) -> None:
    assert AllowedTool(name="x", arguments={"a": pattern}).arguments == {"a": pattern}


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "a)|(?:b",  # closes the group that a matcher may put around it
        "(?x)a # b",  # whose comment does as well
        r"(a)\1",
        "(?<!a)b",
        "[[a]]",  # which engines read differently
        "[a&&b]",
        r"\p{L}",
        "a{99999999999}",
        r"(?:\w{100}){100}",
        "(" * 512,
        "a" * 513,
    ],
)
def test_a_pattern_has_to_compile_in_bounds_whatever_engine_runs_it(pattern: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        AllowedTool(name="x", arguments={"a": pattern})
    (error,) = refusal.value.errors()
    assert error["loc"] == ("arguments", "a")
    assert "\n" not in error["msg"]


def test_the_patterns_of_a_policy_are_bounded_in_all() -> None:
    def policy(patterns: int) -> Policy:
        tools = [
            {
                "name": "x",
                "arguments": {str(number): "a" for number in range(at, min(at + 64, patterns))},
            }
            for at in range(0, patterns, 64)
        ]
        return Policy.model_validate({"tools": tools})

    assert policy(MAX_PATTERNS).tools is not None
    with pytest.raises(ValidationError, match="at most 256 patterns"):
        policy(MAX_PATTERNS + 1)
