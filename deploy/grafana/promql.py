"""Queries as the boards use them: of the chosen jobs and replicas, with Grafana's intervals."""

CHOSEN = 'job=~"$job",instance=~"$instance"'


def series(metric: str, where: str = "") -> str:
    """`where`: further matchers."""
    return f"{metric}{{{CHOSEN}{',' if where else ''}{where}}}"


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """A second, over all replicas."""
    return f"sum{_by(by)} (rate({series(metric, where)}[$__rate_interval]))"


def increase(metric: str, *, by: str = "", where: str = "") -> str:
    """In all of the time that the board shows."""
    return f"sum{_by(by)} (increase({series(metric, where)}[$__range]))"


def quantile(share: float, histogram: str, *, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    buckets = rate(f"{histogram}_bucket", by=labels)
    return f"histogram_quantile({share:g}, {buckets})"


def total(gauge: str, *, by: str = "", where: str = "") -> str:
    return f"sum{_by(by)} ({series(gauge, where)})"


def most(gauge: str, *, by: str = "", where: str = "") -> str:
    return f"max{_by(by)} ({series(gauge, where)})"


def least(gauge: str, *, by: str = "", where: str = "") -> str:
    return f"min{_by(by)} ({series(gauge, where)})"


def or_none(query: str) -> str:
    """0 where nothing of the kind has happened yet, as for counters whose labels are not known
    before."""
    return f"({query} or vector(0))"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
