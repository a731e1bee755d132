import socket
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from app.settings import SettingsError, load_settings
from app.telemetry.metrics import Metrics
from app.upstream.membership.changes import Membership
from app.upstream.membership.dns import WorkersDNS, worker_at
from app.upstream.pool import Pool
from app.worker_settings import Engine, WorkerSettings
from tests.support.rounds import Rounds

TEMPLATE = {"url": "http://vllm.test:8000", "engine": "sglang", "api_key": "k", "tags": ["long"]}

NOT_THERE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NO_SERVER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

Said = Sequence[str] | socket.gaierror


class Following:
    """What the system's resolver would say is what a test says."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry).pool
        self.pool = Pool(())
        self.rounds = Rounds()
        self.v4: Said = ()
        self.v6: Said = NOT_THERE
        self.dns = WorkersDNS(
            WorkerSettings.model_validate(TEMPLATE),
            Membership(self.pool, metrics),
            metrics,
            seconds=10.0,
            resolve=self.resolve,
            sleep=self.rounds.sleep,
        )
        self.running = self.rounds.running(self.dns.run)

    async def resolve(self, name: str, family: socket.AddressFamily) -> Sequence[str]:
        assert name == "vllm.test"
        said = self.v4 if family is socket.AF_INET else self.v6
        if isinstance(said, socket.gaierror):
            raise said
        return said

    async def look(self, v4: Said = (), v6: Said = NOT_THERE) -> list[str]:
        """The workers afterwards."""
        self.v4, self.v6 = v4, v6
        await self.rounds.look()
        return [endpoint.name for endpoint in self.pool.endpoints]


@pytest.fixture
async def following() -> Following:
    return Following()


async def test_each_address_is_a_worker_as_the_template_says(following: Following) -> None:
    async with following.running:
        found = await following.look(["10.0.0.2", "10.0.0.1", "10.0.0.2"])
    assert found == ["10.0.0.1:8000", "10.0.0.2:8000"]
    for endpoint in following.pool.endpoints:
        assert endpoint.settings.engine is Engine.SGLANG
        assert endpoint.headers()["authorization"] == "Bearer k"
        assert endpoint.tags == {"long"}
    assert following.rounds.slept == [10.0, 10.0]


async def test_addresses_come_and_go_and_those_with_requests_go_last(following: Following) -> None:
    async with following.running:
        await following.look(["10.0.0.1", "10.0.0.2"])
        kept = following.pool.endpoints[1]
        kept.in_flight = 1
        assert await following.look(["10.0.0.3"]) == ["10.0.0.2:8000", "10.0.0.3:8000"]
        assert kept.draining


@pytest.mark.parametrize(
    ("v4", "v6"),
    [(NOT_THERE, NOT_THERE), ((), NOT_THERE), ((), ()), (NO_SERVER, ["fd00::1"]), ((), NO_SERVER)],
)
async def test_an_answer_that_fails_or_is_empty_changes_nothing_and_is_told_once(
    following: Following, v4: Said, v6: Said
) -> None:
    async with following.running:
        await following.look(["10.0.0.1"])
        following.v4, following.v6 = v4, v6
        (event,) = await following.rounds.look()
        assert (event["event"], event["log_level"]) == ("workers_dns_unknown", "warning")
        assert await following.rounds.look() == []
        assert not following.pool.endpoints[0].draining
    labels = {"source": "dns", "outcome": "refused"}
    assert following.registry.get_sample_value("gateway_worker_lists_read_total", labels) == 2


async def test_a_worker_with_an_address_of_each_family_is_one_worker(following: Following) -> None:
    async with following.running:
        assert await following.look(["10.0.0.1"], ["fd00::1"]) == ["10.0.0.1:8000"]
        assert await following.look(["10.0.0.1"], NO_SERVER) == ["10.0.0.1:8000"]


async def test_where_there_is_ipv6_alone_it_is_used(following: Following) -> None:
    async with following.running:
        for v4 in ((), NOT_THERE):
            assert await following.look(v4, ["fd00::1"]) == ["[fd00::1]:8000"]


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://vllm.test:8000/v1", "http://10.0.0.1:8000"),
        ("http://vllm.test", "http://10.0.0.1"),
        ("http://user:p%40ss@vllm.test:8000/path", "http://user:p%40ss@10.0.0.1:8000/path"),
    ],
)
def test_all_but_the_host_is_the_templates(url: str, base_url: str) -> None:
    template = WorkerSettings.model_validate({"url": url})
    assert worker_at(template, "10.0.0.1").base_url == base_url


def test_the_setting_is_a_url_or_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS_DNS", "http://vllm:8000")
    assert load_settings().workers_dns == WorkerSettings.model_validate({"url": "http://vllm:8000"})
    monkeypatch.setenv("GATEWAY_WORKERS_DNS", '{"url": "http://vllm:8000", "engine": "sglang"}')
    template = load_settings().workers_dns
    assert template is not None
    assert template.engine is Engine.SGLANG


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://vllm:8443", "GATEWAY_WORKERS_DNS: must be http: "),
        ("vllm:8000", r"GATEWAY_WORKERS_DNS\[url\]: must be a URL"),
        ('{"url": ', "GATEWAY_WORKERS_DNS: is neither a URL nor the JSON of a worker"),
        ('{"url": "http://vllm:8000", "kind": 1}', r"GATEWAY_WORKERS_DNS\[kind\]: is not a"),
    ],
)
def test_another_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS_DNS", value)
    with pytest.raises(SettingsError, match=reason):
        load_settings()
