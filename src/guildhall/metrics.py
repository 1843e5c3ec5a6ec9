"""The counts of one process in the form that Prometheus reads. Loaded with the first request for them."""

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from guildhall.web.traffic import BUCKETS_S, Traffic

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Counts(Collector):
    def __init__(self, traffic: Traffic, jobs: Mapping[str, int]) -> None:
        self._traffic = traffic
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "guildhall_requests", "Requests answered by this process.", labels=("method", "status")
        )
        for (method, status), count in sorted(self._traffic.answered.items()):
            requests.add_metric((method, str(status)), count)
        yield requests
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self._traffic.within, strict=True):
            total += count
            buckets.append((bound, total))
        yield HistogramMetricFamily(
            "guildhall_request_seconds",
            "How long this process took to answer.",
            buckets=buckets,
            sum_value=self._traffic.seconds,
        )
        jobs = GaugeMetricFamily("guildhall_jobs", "Jobs of the whole service.", labels=("status",))
        for status, count in sorted(self._jobs.items()):
            jobs.add_metric((status,), count)
        yield jobs


def write_metrics(traffic: Traffic, jobs: Mapping[str, int]) -> bytes:
    """`jobs` is how many there are of each status."""
    registry = CollectorRegistry()
    registry.register(_Counts(traffic, jobs))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
