"""Whether requests leave traces, where those go, and what they may hold."""

import re
from typing import Annotated

from pydantic import AfterValidator, AnyHttpUrl, Field, SecretStr

from app.settings.forms import Secret, Theme

TRACES_PATH = "/v1/traces"  # OTLP's own, which a bare address means
HEADERS_FORM = "must be name=value, several with commas between them"

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([\x20-\x7e]+)")


def _collector(url: AnyHttpUrl | None) -> AnyHttpUrl | None:
    if url is not None and (url.username is not None or url.password is not None):
        raise ValueError("holds a credential; give it in GATEWAY_OTLP_HEADERS")
    if url is not None and (url.query is not None or url.fragment is not None):
        raise ValueError("may have no query; a key belongs in GATEWAY_OTLP_HEADERS")
    return url


def _header_pairs(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        parse_headers(secret)
    return secret


def parse_headers(secret: SecretStr) -> dict[str, str]:
    """Of `name=value,name=value`. Raises ValueError, which repeats nothing of it."""
    headers = {}
    for part in secret.get_secret_value().split(","):
        match = _HEADER.fullmatch(part.strip())
        if match is None:
            raise ValueError(HEADERS_FORM)
        headers[match[1].lower()] = match[2].strip()
    return headers


class TraceSettings(Theme):
    """Traces

    Off unless there is a collector; see [Traces](traces.md).
    """

    otlp_endpoint: Annotated[AnyHttpUrl | None, AfterValidator(_collector)] = None
    """The OpenTelemetry collector that spans are sent to, by OTLP over HTTP:
    `http://collector:4318`, to which `/v1/traces` is added, or a URL with a path, which is taken as
    it is. Needs the extra `traces`."""

    otlp_headers: Annotated[Secret | None, AfterValidator(_header_pairs)] = None
    """Headers for the collector, a credential among them: `name=value`, several with commas between
    them."""

    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Of the requests, the share that leaves spans: by default all, as a model answers few in a
    second. The draw is ours, whatever the request's `traceparent` says."""

    trace_follow_clients: bool = False
    """A `traceparent` that comes with a request decides instead whether it leaves spans. Only where
    all clients are your own: it lets them choose what your collector gets."""

    trace_content: bool = False
    """Prompts and visible answers stand in the spans, cut at 32,768 characters each. Never those of
    keys whose audit level is `metadata`. A prompt is there as the filter left it."""

    trace_queue_spans: int = Field(default=8_192, ge=512)
    """Spans that wait for the collector, in each process; more are dropped and counted. A request
    has three to ten, of some 2 KB each: 16 MB. Content counts as one more for each 2 KB of it."""

    trace_flush_seconds: float = Field(default=1.0, gt=0, le=60)
    """How often they are sent, where there are few; many are sent at once."""

    @property
    def traces_url(self) -> str | None:
        """Where spans are posted to."""
        if self.otlp_endpoint is None:
            return None
        url = str(self.otlp_endpoint)
        bare = self.otlp_endpoint.path in (None, "", "/")
        return url.rstrip("/") + TRACES_PATH if bare else url
