import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.settings import SettingsError, load_settings
from app.settings.worker import Engine, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.membership.changes import Membership
from app.upstream.membership.dns import WorkersDNS, worker_at
from app.upstream.pool import Pool
from tests.support.rounds import Rounds

TEMPLATE = {"url": "http://vllm.test:8000", "engine": "sglang", "api_key": "k", "tags": ["long"]}

NOT_THERE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NO_SERVER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

Said = Sequence[str] | socket.gaierror

OTHER = {"url": "http://long.test:8000", "max_model_len": 1_010_000}


class Following:
    """What the system's resolver would say is what a test says: of the one name all that `look` is
    given, of others what `others` holds."""

    def __init__(self, *others: Mapping[str, object]) -> None:
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry).pool
        self.pool = Pool(())
        self.rounds = Rounds()
        self.v4: Said = ()
        self.v6: Said = NOT_THERE
        self.others: dict[str, Said] = {}
        self.dns = WorkersDNS(
            [WorkerSettings.model_validate(each) for each in (TEMPLATE, *others)],
            Membership(self.pool, metrics),
            metrics,
            seconds=10.0,
            resolve=self.resolve,
            sleep=self.rounds.sleep,
        )
        self.running = self.rounds.running(self.dns.run)

    async def resolve(self, name: str, family: socket.AddressFamily) -> Sequence[str]:
        if name == "vllm.test":
            said = self.v4 if family is socket.AF_INET else self.v6
        else:
            said = self.others[name] if family is socket.AF_INET else NOT_THERE
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


async def test_each_name_has_workers_of_its_own_kind() -> None:
    following = Following(OTHER)
    following.others["long.test"] = ["10.0.0.9"]
    async with following.running:
        assert await following.look(["10.0.0.1"]) == ["10.0.0.1:8000", "10.0.0.9:8000"]
    short, long = following.pool.endpoints
    assert (short.settings.engine, short.tags) == (Engine.SGLANG, {"long"})
    assert (long.settings.engine, long.context_tokens) == (Engine.VLLM, 1_010_000)


async def test_of_a_name_that_does_not_answer_the_workers_stay_while_others_change() -> None:
    following = Following(OTHER)
    following.others["long.test"] = ["10.0.0.9"]
    async with following.running:
        await following.look(["10.0.0.1"])
        following.others["long.test"] = NO_SERVER
        assert await following.look(["10.0.0.2"]) == ["10.0.0.9:8000", "10.0.0.2:8000"]
        assert not following.pool.endpoints[0].draining


async def test_an_address_behind_two_names_is_as_the_first_says() -> None:
    following = Following(OTHER)
    following.others["long.test"] = ["10.0.0.1"]
    async with following.running:
        assert await following.look(["10.0.0.1"]) == ["10.0.0.1:8000"]
        assert following.pool.endpoints[0].settings.engine is Engine.SGLANG


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


URL = "http://vllm:8000"


@pytest.mark.parametrize(
    ("value", "engines"),
    [
        (URL, [Engine.VLLM]),
        ('{"url": "http://vllm:8000", "engine": "sglang"}', [Engine.SGLANG]),
        ('["http://vllm:8000"]', [Engine.VLLM]),
        (
            '["http://vllm:8000", {"url": "http://long:8000", "engine": "sglang"}]',
            [Engine.VLLM, Engine.SGLANG],
        ),
    ],
)
def test_the_setting_is_a_url_or_a_worker_or_a_list(
    monkeypatch: pytest.MonkeyPatch, value: str, engines: list[Engine]
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS_DNS", value)
    assert [template.engine for template in load_settings().workers_dns] == engines


def test_the_yaml_file_may_hold_the_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("workers_dns: [{url: 'http://vllm:8000', tags: [short]}, 'http://long:8000']")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    assert [template.name for template in load_settings().workers_dns] == ["vllm:8000", "long:8000"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://vllm:8443", r"GATEWAY_WORKERS_DNS\[0\]: must be http: "),
        ("vllm:8000", r"GATEWAY_WORKERS_DNS\[0\]\[url\]: must be a URL"),
        ('{"url": ', r"GATEWAY_WORKERS_DNS\[0\]: is neither a URL nor the JSON of a worker"),
        ('{"url": "http://vllm:8000", "kind": 1}', r"GATEWAY_WORKERS_DNS\[0\]\[kind\]: is not a"),
        ('["http://vllm:8000", "https://long:8443"]', r"GATEWAY_WORKERS_DNS\[1\]: must be http: "),
        ('["http://vllm:8000"', "GATEWAY_WORKERS_DNS: is not valid JSON"),
    ],
)
def test_another_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS_DNS", value)
    with pytest.raises(SettingsError, match=reason):
        load_settings()
