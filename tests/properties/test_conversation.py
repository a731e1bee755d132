"""A conversation's key is the same in every process, and no two tenants share one."""

import json
import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.conversation import conversation_of
from app.protocol.prompt_text import prompt_text

# Another process, with another seed for Python's own hashes: a line of JSON in, a key out.
OTHER_PROCESS = """
import json, sys
from app.protocol.conversation import conversation_of
from app.protocol.prompt_text import prompt_text
for line in sys.stdin:
    fields, tenant, hint = json.loads(line)
    print(conversation_of(prompt_text(fields), tenant, hint).hex())
"""

texts = st.text(max_size=200) | st.integers(0, 40_000).map(lambda size: "ä" * size)
messages = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "tool"]), texts), min_size=1, max_size=6
)
requests = st.tuples(
    st.booleans(),
    st.none() | texts,
    messages,
    st.sampled_from(["acme", "other", ""]),
    st.none() | st.text(max_size=20),
)
Request = tuple[bool, str | None, list[tuple[str, str]], str, str | None]


def fields_of(request: Request) -> dict[str, Any]:
    tools, system, said, *_ = request
    asked = [{"role": "system", "content": system}] if system is not None else []
    asked += [{"role": role, "content": content} for role, content in said]
    named = [{"type": "function", "function": {"name": "f"}}] if tools else []
    return {"messages": asked, "tools": named}


@settings(max_examples=5, deadline=None)
@given(st.lists(requests, min_size=20, max_size=40))
def test_two_processes_agree(drawn: list[Request]) -> None:
    asked = [(fields_of(request), request[3], request[4]) for request in drawn]
    lines = "".join(json.dumps(each) + "\n" for each in asked)
    other = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=lines.encode(),
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "1"},
    )
    ours = [
        conversation_of(prompt_text(fields), tenant, hint).hex() for fields, tenant, hint in asked
    ]
    assert other.stdout.decode().split() == ours


@settings(max_examples=200, deadline=None)
@given(requests, st.text(max_size=20), messages)
def test_tenants_share_none_and_later_turns_change_none(
    request: Request, tenant: str, more: list[tuple[str, str]]
) -> None:
    tools, system, said, owner, hint = request
    said = [*said, ("user", "What?")]  # every request has one
    before = prompt_text(fields_of((tools, system, said, owner, hint)))
    after = prompt_text(fields_of((tools, system, [*said, *more], owner, hint)))
    assert conversation_of(before, owner, hint) == conversation_of(after, owner, hint)
    if tenant != owner:
        assert conversation_of(before, tenant, hint) != conversation_of(before, owner, hint)
