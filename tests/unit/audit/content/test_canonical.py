"""One value, one sequence of bytes."""

import orjson
import pytest

from app.audit.content.canonical import canonical

DEEPER_THAN_ORJSON_WRITES = 300


def nested(value: object, depth: int = DEEPER_THAN_ORJSON_WRITES) -> object:
    for _ in range(depth):
        value = [value]
    return value


def test_the_order_of_names_is_lost() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"b": [1, 2.5, None, True, "\x00\u2028é😀"], "a": {"z": {}, "y": [[], [{}]]}},
        {"😀": 1, "\uffff": 2, "é": 3, "z": 4, "": 5},
        [{"b": 1, "a": [1, {"d": 1, "c": 1}]}, 2],
    ],
)
def test_what_is_too_deep_for_orjson_is_written_as_orjson_writes(value: object) -> None:
    around = b"[" * DEEPER_THAN_ORJSON_WRITES, b"]" * DEEPER_THAN_ORJSON_WRITES
    expected = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).join(around)
    assert canonical(nested(value)) == expected
