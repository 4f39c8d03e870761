"""Counters as plain integers, read only when somebody scrapes.

A program defines each metric once, beside the sentence that explains it (`edge/metrics.py`, `origin/metrics.py`), and
counts with `metrics.viewer_bytes[Source.PEER] += n`: a dictionary look-up and an addition. Every value of a closed
label exists at 0 from the start, so that a rule never mistakes "nothing happened" for "not measured".
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# From a memory hit on the same machine to a viewer who has long given up; finer where hits and peers differ.
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Count:
    """A counter without labels: `metrics.zone_crossing_bytes.value += n`."""

    def __init__(self, name: str, help_text: str) -> None:
        self.name, self.help_text = name, help_text
        self.value = 0

    def collect(self) -> Metric:
        return CounterMetricFamily(self.name, self.help_text, value=self.value)


class Tally(dict[str, int]):
    """A counter for each word of a closed set: `metrics.viewer_bytes[Source.PEER] += n`. Another word is a KeyError."""

    def __init__(self, name: str, help_text: str, label: str, words: Iterable[str]) -> None:
        super().__init__((word, 0) for word in words)
        self.name, self.help_text, self.label = name, help_text, label

    def collect(self) -> Metric:
        family = CounterMetricFamily(self.name, self.help_text, labels=[self.label])
        for word, value in self.items():
            family.add_metric([str(word)], value)
        return family


class Ledger(dict[str, dict[str, int]]):
    """A counter with an open label and a closed one: `metrics.sent_bytes["edge-1"][Reason.FIRST_COPY] += n`.

    A name's row begins at 0 with all words of the closed set. Past `most` names, newcomers share the row `other`:
    a stranger who makes up names must not fill our memory.
    """

    OTHER = "other"

    def __init__(
        self, name: str, help_text: str, labels: tuple[str, str], words: Iterable[str], most: int = 1000
    ) -> None:
        super().__init__()
        self.name, self.help_text, self.labels, self.most = name, help_text, labels, most
        self._words = tuple(words)

    def __missing__(self, key: str) -> dict[str, int]:
        if len(self) >= self.most and key != self.OTHER:
            return self[self.OTHER]
        row = self[key] = dict.fromkeys(self._words, 0)
        return row

    def collect(self) -> Metric:
        family = CounterMetricFamily(self.name, self.help_text, labels=self.labels)
        for key, row in self.items():
            for word, value in row.items():
                family.add_metric([key, str(word)], value)
        return family


class Observations:
    """How many observations fell up to each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_at_once(self, count: int) -> None:
        """So many that took next to nothing: in the first bucket, and nothing to the sum."""
        self.counts[0] += count

    def cumulative(self) -> list[tuple[str, float]]:
        """The (`le`, count up to it) pairs of the exposition format, `+Inf` last."""
        pairs, total = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs


class Histogram(Observations):
    """A histogram without labels: `metrics.viewer_ttfb.observe(0.012)`."""

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...] = LATENCY_BUCKETS_S) -> None:
        super().__init__(bounds)
        self.name, self.help_text = name, help_text

    def collect(self) -> Metric:
        return HistogramMetricFamily(self.name, self.help_text, buckets=self.cumulative(), sum_value=self.sum)


class Histograms(dict[str, Observations]):
    """A histogram for each word of a closed set: `metrics.fetch[Source.PEER].observe(0.012)`."""

    def __init__(
        self,
        name: str,
        help_text: str,
        label: str,
        words: Iterable[str],
        bounds: tuple[float, ...] = LATENCY_BUCKETS_S,
    ) -> None:
        super().__init__((word, Observations(bounds)) for word in words)
        self.name, self.help_text, self.label = name, help_text, label

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help_text, labels=[self.label])
        for word, observations in self.items():
            family.add_metric([str(word)], observations.cumulative(), observations.sum)
        return family


class Gauge:
    """A number somebody else keeps, asked for at scrape: `metrics.ready.read = lambda: app.ready`."""

    def __init__(self, name: str, help_text: str, read: Callable[[], float] = lambda: 0.0) -> None:
        self.name, self.help_text, self.read = name, help_text, read

    def collect(self) -> Metric:
        return GaugeMetricFamily(self.name, self.help_text, value=self.read())


class Gauges:
    """A gauge for each word of a closed set; a word that `read` leaves out is 0, a word it makes up is a KeyError."""

    def __init__(
        self,
        name: str,
        help_text: str,
        label: str,
        words: Iterable[str],
        read: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.name, self.help_text, self.label, self.read = name, help_text, label, read
        self.words = tuple(words)

    def collect(self) -> Metric:
        values: Mapping[str, float] = self.read()
        if strangers := [word for word in values if word not in self.words]:
            raise KeyError(f"{self.name}: {strangers} not in {[*map(str, self.words)]}")
        family = GaugeMetricFamily(self.name, self.help_text, labels=[self.label])
        for word in self.words:
            family.add_metric([str(word)], values.get(word, 0))
        return family


class Info:
    """Facts that never change while the program runs, as labels of a gauge that is always 1."""

    def __init__(self, name: str, help_text: str, facts: Mapping[str, str]) -> None:
        self.name, self.help_text, self.facts = name, help_text, dict(facts)

    def collect(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.help_text, labels=list(self.facts))
        family.add_metric(list(self.facts.values()), 1)
        return family


class Collectable(Protocol):
    """One metric of a program: its exposed name, and its state when scraped."""

    name: str
    help_text: str

    def collect(self) -> Metric: ...


class Exposition:
    """All metrics of one program, with those of its process; two programs in one test have two of these."""

    def __init__(self, metrics: Iterable[Collectable]) -> None:
        self._metrics = tuple(metrics)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics:
            yield metric.collect()

    def render(self) -> bytes:
        """The Prometheus text format, to be sent with `CONTENT_TYPE`."""
        return generate_latest(self._registry)


def defined_in(program: object) -> list[Collectable]:
    """The metrics a program keeps as attributes, in the order it defines them."""
    kinds = (Count, Tally, Ledger, Histogram, Histograms, Gauge, Gauges, Info)
    return [metric for metric in vars(program).values() if isinstance(metric, kinds)]
