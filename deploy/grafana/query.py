"""Asks a Prometheus what a panel would ask it."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from deploy.grafana.panels import Json

ANSWER_SECONDS = 30.0
ALL = ".+"  # what `$job` and `$instance` stand for where nobody chose


@dataclass(frozen=True)
class Span:
    """What a board shows, in seconds since 1970, and how far its points are apart."""

    start: float
    end: float
    step_seconds: float
    scrape_seconds: float

    def filled_in(self, expr: str) -> str:
        """With the variables as Grafana would set them. A rate needs four scrapes to stay whole
        where one is missed."""
        interval = max(self.step_seconds + self.scrape_seconds, 4 * self.scrape_seconds)
        values = {
            "job": ALL,
            "instance": ALL,
            "__rate_interval": f"{math.ceil(interval)}s",
            "__range": f"{math.ceil(self.end - self.start)}s",
        }
        return re.sub(r"\$(\w+)", lambda name: values[name[1]], expr)


@dataclass(frozen=True)
class Line:
    """One series; `points` are (time, value), finite ones only."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def now(self, expr: str, at: float) -> list[Line]:
        """Those that have a finite value. Raises HTTPError for what is no PromQL."""
        found = self._ask("query", {"query": expr, "time": at})
        if found["resultType"] == "scalar":
            return list(_finite([({}, [found["result"]])]))
        return list(_finite((each["metric"], [each["value"]]) for each in found["result"]))

    def over(self, expr: str, span: Span) -> list[Line]:
        times = {"start": span.start, "end": span.end, "step": span.step_seconds}
        found = self._ask("query_range", {"query": expr, **times})
        return list(_finite((each["metric"], each["values"]) for each in found["result"]))

    def _ask(self, what: str, values: Mapping[str, object]) -> Json:
        if not self._url.startswith(("http://", "https://")):
            raise ValueError(f"{self._url} is no URL of a Prometheus: it begins with http://")
        body = urlencode(values).encode()
        request = Request(f"{self._url}/api/v1/{what}", body)  # noqa: S310 - looked at above
        with urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - looked at above
            data: Json = json.load(answer)["data"]
        return data


def _finite(found: Iterable[tuple[Json, Sequence[Sequence[str]]]]) -> Iterator[Line]:
    for labels, values in found:
        points = tuple((float(at), float(value)) for at, value in values)
        points = tuple((at, value) for at, value in points if math.isfinite(value))
        if points:
            yield Line(labels, points)
