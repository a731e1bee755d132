"""YAML that means what it says: every plain scalar is text.

YAML 1.1 reads `off` as false, `1_0` as ten and `2026-01-01` as a date, takes the last of two equal
keys, and lets a kilobyte of aliases unfold to gigabytes. None of this here: where a field is a
number or a switch, its model reads the text.
"""

from typing import Any

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

NULL_TAG = "tag:yaml.org,2002:null"
TEXT_TAG = "tag:yaml.org,2002:str"
TAGS = frozenset({NULL_TAG, TEXT_TAG, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})


class NotYaml(ValueError):
    """The reason, in one line, with the number of the line where it is known."""


def parse(text: str) -> object:
    """Mappings, lists, strings and None. Raises NotYaml. Some 2 s for 1 MiB: a thread's work."""
    try:
        node = yaml.compose(text, _Loader)
        return None if node is None else _value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise NotYaml(f"{where}{problem}") from None
    except yaml.YAMLError as error:
        raise NotYaml(" ".join(str(error).split())) from None
    except RecursionError:
        raise NotYaml("it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """Composes nodes, which are never made into Python's objects by their tags."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as its base class has it
        first: [(tag, regexp) for tag, regexp in resolvers if tag == NULL_TAG]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]  # the library's
            raise _error(alias.start_mark, "aliases are not allowed; write it out")
        return super().compose_node(parent, index)


def _value(node: Node) -> object:
    if node.tag not in TAGS:
        raise _error(node.start_mark, "tags are not allowed")
    match node:
        case SequenceNode():
            return [_value(item) for item in node.value]
        case MappingNode():
            return _mapping(node)
    return None if node.tag == NULL_TAG else node.value


def _mapping(node: MappingNode) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or key.tag != TEXT_TAG:
            raise _error(key.start_mark, "a key must be text")
        if key.value in values:
            raise _error(key.start_mark, f'the key "{key.value}" stands here twice')
        values[key.value] = _value(value)
    return values


def _error(mark: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
