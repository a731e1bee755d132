"""Cutting an input into pieces, for laws that say that it must not matter."""

import itertools
from typing import TypeVar

from hypothesis import strategies as st

Sliceable = TypeVar("Sliceable", bytes, str)

cuts = st.lists(st.integers(0, 400), max_size=12)


def cut(data: Sliceable, at: list[int]) -> list[Sliceable]:
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]
