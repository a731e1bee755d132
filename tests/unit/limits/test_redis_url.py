"""What is no URL of a Redis is refused at the start, in words that repeat nothing of it."""

import pytest

from app.limits.redis_wire import make_wire
from app.limits.start import check_redis_url
from app.settings import Settings, SettingsError

WRONG = (
    "redis://:x7q/ss@host:6379/0",  # a slash in the password: what is before it is read as a port
    "redis://:x7q@host:port/0",
    "http://host:6379",
    "host:6379",
    "redis://host?sockets=7",
    "redis://host?max_connections=x7q",
)


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize("url", WRONG)
def test_it_is_refused_without_repeating_it(url: str, cluster: bool) -> None:
    settings = Settings(redis_url=url, redis_cluster=cluster)  # type: ignore[arg-type]  # made a secret
    with pytest.raises(SettingsError, match=r"^GATEWAY_REDIS_URL: must be a URL") as caught:
        check_redis_url(settings)
    assert "'" not in str(caught.value)
    assert "x7q" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://host", "rediss://user:p%2Fw@host:6380/3", "unix:///r.sock"]
)
def test_a_good_one_is_not_connected_to(url: str) -> None:
    make_wire(url, cluster=False, connect_seconds=1)
