"""The log calls of the application, read from its source."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

APPLICATION = Path(__file__).parents[3] / "app"
LOG_METHODS = {
    f"log.{level}" for level in ("debug", "info", "warning", "error", "critical", "exception")
}
# The event is a parameter there: of the method that is named, whose callers give it.
PASSED_ON = {"audit/spool/writer.py": "_tell"}
# Structlog's own seam, where the library's records come in, and the request's line, whose fields
# are a dictionary.
WITHOUT_LITERALS = "telemetry/logs.py"

OTHER_WAYS = {"print", "logging.info", "logging.warning", "logging.error", "logging.exception"}


@dataclass(frozen=True)
class LogCall:
    where: str
    event: str | None
    fields: dict[str, ast.expr] = field(default_factory=dict)
    splat: bool = False


def log_calls() -> Iterator[LogCall]:
    for path in sorted(APPLICATION.rglob("*.py")):
        name = path.relative_to(APPLICATION).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_log_method(node.func):
                yield from _calls(node, name, tree)


def other_loggers() -> Iterator[str]:
    """Where a logger is made, but for `log = structlog.get_logger()`, or something is printed
    outside of the commands."""
    for path in sorted(APPLICATION.rglob("*.py")):
        name = path.relative_to(APPLICATION).as_posix()
        if name == WITHOUT_LITERALS or name.startswith("cli/"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if _is_another_way(node):
                yield f"app/{name}:{node.lineno}: {ast.unparse(node)}"


def _is_another_way(node: ast.AST) -> TypeGuard[ast.expr | ast.stmt]:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in OTHER_WAYS
    if isinstance(node, ast.IfExp):  # `tell = log.info if ... else log.warning`
        return _is_log_method(node.body)
    if isinstance(node, ast.Assign):
        made = "get_logger" in ast.unparse(node.value)
        return made and ast.unparse(node) != "log = structlog.get_logger()"
    return False


def _is_log_method(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and ast.unparse(called) in LOG_METHODS


def _calls(node: ast.Call, name: str, tree: ast.Module) -> Iterator[LogCall]:
    where = f"app/{name}:{node.lineno}"
    fields = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
    splat = len(fields) < len(node.keywords)
    for event in _events(node, name, tree):
        yield LogCall(where, event, fields, splat)


def _events(node: ast.Call, name: str, tree: ast.Module) -> Iterator[str | None]:
    event = node.args[0]
    if isinstance(event, ast.Constant):
        yield event.value
    elif name in PASSED_ON:
        yield from _first_arguments(tree, PASSED_ON[name])
    else:
        yield None


def _first_arguments(tree: ast.Module, method: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"self.{method}":
            event = node.args[0]
            assert isinstance(event, ast.Constant)
            yield event.value
