from collections.abc import Iterator

import pytest

from tests.support.edge_server import Edge, edge


@pytest.fixture(scope="module")
def patient() -> Iterator[Edge]:
    """No deadline passes while a test runs."""
    with edge(
        header_deadline_seconds=60, body_deadline_seconds=60, keep_alive_seconds=60
    ) as served:
        yield served
