"""What becomes of the workers that several sources name."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.errors import Conflict, NotFound
from app.settings.worker import NamedTwice, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.endpoint import Endpoint
from app.upstream.membership.changes import SHOWN_SECONDS, Membership, Source
from app.upstream.pool import Pool
from tests.support.fake_time import run_in_fake_time


class Changing:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.pool = Pool(())
        self.forgotten: list[Endpoint] = []
        self.membership = Membership(self.pool, self.metrics.pool, [self.forgotten.append])

    def want(self, source: Source, *workers: WorkerSettings) -> bool:
        return self.membership.want(source, workers)

    @property
    def names(self) -> list[str]:
        return [endpoint.name for endpoint in self.pool.endpoints]

    def series(self, worker: str) -> list[str]:
        """The names of those that tell of this worker."""
        return [
            sample.name
            for family in self.registry.collect()
            for sample in family.samples
            if sample.labels.get("worker") == worker
        ]


@pytest.fixture
def changing() -> Changing:
    return Changing()


def worker(name: str = "w0", **values: object) -> WorkerSettings:
    return WorkerSettings.model_validate({"url": f"http://{name}:8000"} | values)


async def test_a_worker_that_two_sources_name_leaves_when_neither_does(changing: Changing) -> None:
    changing.want(Source.FILE, worker())
    changing.want(Source.DNS, worker())
    (endpoint,) = changing.pool.endpoints
    assert changing.want(Source.FILE)
    assert changing.pool.endpoints == [endpoint]
    assert changing.membership.member("w0:8000").source is Source.DNS
    assert changing.want(Source.DNS)
    assert changing.pool.endpoints == []
    assert changing.forgotten == [endpoint]


async def test_the_settings_are_believed_before_others(changing: Changing) -> None:
    changing.want(Source.DNS, worker(tags=["dns"]))
    changing.want(Source.SETTINGS, worker(tags=["settings"]))
    (endpoint,) = changing.pool.endpoints
    assert endpoint.tags == {"settings"}


async def test_the_same_list_again_changes_nothing(changing: Changing) -> None:
    assert changing.want(Source.FILE, worker("w0"), worker("w1"))
    with capture_logs() as logs:
        assert not changing.want(Source.FILE, worker("w1"), worker("w0"))
    assert logs == []


async def test_a_list_that_names_one_twice_changes_nothing(changing: Changing) -> None:
    with pytest.raises(NamedTwice, match="names w0:8000 twice"):
        changing.want(Source.FILE, worker(), worker(tags=["again"]))
    assert changing.names == []


async def test_a_worker_with_requests_leaves_with_the_last_of_them(changing: Changing) -> None:
    changing.want(Source.FILE, worker())
    (endpoint,) = changing.pool.endpoints
    endpoint.in_flight = 1
    changing.want(Source.FILE, worker("w1"))
    assert (endpoint.draining, changing.names) == (True, ["w0:8000", "w1:8000"])
    with pytest.raises(NotFound):
        changing.membership.drain("w0:8000")
    endpoint.in_flight = 0
    changing.pool.released(endpoint)
    assert changing.names == ["w1:8000"]


async def test_one_that_comes_back_before_it_has_left_is_the_same_and_serves(
    changing: Changing,
) -> None:
    changing.want(Source.DNS, worker())
    (endpoint,) = changing.pool.endpoints
    endpoint.in_flight = 1
    changing.membership.drain("w0:8000")
    changing.want(Source.DNS, worker("w1"))
    changing.want(Source.DNS, worker("w1"), worker())
    assert changing.membership.member("w0:8000").endpoint is endpoint
    assert not endpoint.draining
    assert changing.forgotten == []


@pytest.mark.parametrize(
    "values",
    [{"api_key": "new"}, {"tags": ["long"]}, {"max_model_len": 4096}, {"max_concurrency": 2}],
)
async def test_what_does_not_change_how_it_answers_acts_at_once(
    changing: Changing, values: dict[str, object]
) -> None:
    changing.want(Source.FILE, worker(api_key="old"))
    (endpoint,) = changing.pool.endpoints
    endpoint.ready = endpoint.verified = True
    endpoint.in_flight = 3
    changing.want(Source.FILE, worker(**({"api_key": "old"} | values)))
    assert changing.pool.endpoints == [endpoint]
    assert endpoint.ready
    assert endpoint.verified
    if "api_key" in values:
        assert endpoint.headers()["authorization"] == "Bearer new"
    if "tags" in values:
        assert endpoint.tags == {"long"}
    if "max_model_len" in values:
        assert endpoint.context_tokens == 4096
    if "max_concurrency" in values:
        assert endpoint.load.rules.max_streams == 2


@pytest.mark.parametrize(
    "values",
    [
        {"engine": "sglang"},
        {"separation": "inline"},
        {"thinks": False},
        {"body_overrides": {"chat_template_kwargs": {"enable_thinking": False}}},
        {"url": "https://w0:8000"},
    ],
)
async def test_one_that_answers_in_another_way_is_checked_before_it_gets_anything(
    changing: Changing, values: dict[str, object]
) -> None:
    changing.want(Source.FILE, worker())
    (before,) = changing.pool.endpoints
    before.ready = before.verified = True
    before.in_flight = 1
    changing.membership.drain("w0:8000")
    changing.want(Source.FILE, worker(**values))
    first, after = changing.pool.endpoints
    assert first is before
    assert (after.ready, after.verified) == (False, False)
    assert after.draining, "what an operator said holds for the name"
    before.in_flight = 0
    changing.pool.released(before)
    assert changing.pool.endpoints == [after]
    assert changing.forgotten == [], "the other one has the name"


async def test_what_is_drained_stays_and_is_resumed(changing: Changing) -> None:
    changing.want(Source.FILE, worker())
    (endpoint,) = changing.pool.endpoints
    changing.membership.drain("w0:8000")
    changing.want(Source.FILE, worker(api_key="rotated"))
    assert endpoint.draining
    changing.membership.resume("w0:8000")
    assert not endpoint.draining


@pytest.mark.parametrize("source", [Source.FILE, Source.DNS])
async def test_what_would_be_back_at_once_is_not_removed(
    changing: Changing, source: Source
) -> None:
    changing.want(source, worker())
    with pytest.raises(Conflict) as caught:
        changing.membership.remove("w0:8000")
    assert (caught.value.code, caught.value.should_retry) == ("worker_is_named", False)
    assert changing.names == ["w0:8000"]


async def test_one_of_the_settings_is_removed(changing: Changing) -> None:
    changing.want(Source.SETTINGS, worker())
    changing.membership.remove("w0:8000")
    assert changing.names == []


async def test_what_is_there_is_not_added_again(changing: Changing) -> None:
    changing.want(Source.SETTINGS, worker())
    with pytest.raises(Conflict) as caught:
        changing.membership.add(worker())
    assert caught.value.code == "worker_exists"


async def test_each_change_is_counted_and_logged_without_secrets(changing: Changing) -> None:
    with capture_logs() as logs:
        changing.want(Source.FILE, worker(url="http://user:pass@w0:8000", api_key="secret"))
        changing.membership.drain("w0:8000")
        changing.membership.resume("w0:8000")
        changing.want(Source.FILE, worker("w1"))
    assert all(log["event"] == "pool_changed" for log in logs)
    seen = [(log["change"], log["worker"], log["source"]) for log in logs]
    assert seen == [
        ("added", "w0:8000", "file"),
        ("drained", "w0:8000", "admin"),
        ("resumed", "w0:8000", "admin"),
        ("leaving", "w0:8000", "file"),
        ("removed", "w0:8000", "file"),
        ("added", "w1:8000", "file"),
    ]
    assert not any(secret in str(logs) for secret in ("secret", "pass"))
    for change, _, source in seen:
        count = changing.registry.get_sample_value(
            "gateway_worker_changes_total", {"change": change, "source": source}
        )
        assert count == sum((c, s) == (change, source) for c, _, s in seen)


def draining(changing: Changing) -> float | None:
    labels = {"worker": "w0:8000"}
    return changing.registry.get_sample_value("gateway_worker_draining", labels)


async def test_a_drained_worker_can_be_seen_as_such(changing: Changing) -> None:
    changing.want(Source.FILE, worker())
    assert draining(changing) == 0
    changing.membership.drain("w0:8000")
    assert draining(changing) == 1
    changing.membership.resume("w0:8000")
    assert draining(changing) == 0


def test_the_series_of_a_removed_worker_go_once_they_were_scraped() -> None:
    async def scenario() -> None:
        changing = Changing()
        changing.want(Source.DNS, worker())
        changing.metrics.upstream_succeeded("w0:8000")
        changing.metrics.worker_checked("w0:8000", "ok")
        changing.metrics.pool.worker_load("w0:8000", 1, 2)
        changing.want(Source.DNS, worker("w1"))
        # What ends with its last request is counted after it was removed.
        changing.metrics.pool.worker_load("w0:8000", 0, 0)
        changing.metrics.upstream_failed("w0:8000", "connect")
        await asyncio.sleep(SHOWN_SECONDS / 2)
        assert "gateway_upstream_requests_total" in changing.series("w0:8000")
        await asyncio.sleep(SHOWN_SECONDS)
        assert changing.series("w0:8000") == []
        assert changing.series("w1:8000")

    run_in_fake_time(scenario())


def test_the_series_of_one_that_came_back_stay() -> None:
    async def scenario() -> None:
        changing = Changing()
        both: Sequence[WorkerSettings] = (worker(), worker("w1"))
        changing.want(Source.DNS, *both)
        changing.metrics.upstream_succeeded("w0:8000")
        changing.want(Source.DNS, worker("w1"))
        changing.want(Source.DNS, *both)
        await asyncio.sleep(2 * SHOWN_SECONDS)
        assert "gateway_upstream_requests_total" in changing.series("w0:8000")

    run_in_fake_time(scenario())
