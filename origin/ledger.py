"""The ledger: every body byte sent, by who asked and why, counted when its response is complete."""

from collections.abc import Iterable, Mapping

from origin.metrics import DIRECT, OriginMetrics
from swarm.accounting import Control, Reason
from swarm.coverage import Coverage

Run = tuple[int, int]  # bytes start ... end - 1 of a version


class OriginLedger:
    """Counts completed responses; a response that broke off is not in it, as its asker does not count it either."""

    def __init__(self, metrics: OriginMetrics) -> None:
        self.metrics = metrics
        self._seen = Coverage()

    def __repr__(self) -> str:
        return f"<OriginLedger {sum(self.by_reason().values())} bytes to {len(self.metrics.sent_bytes)} askers>"

    def on_sent(
        self, asker: str, reason: Reason, sent_bytes: int, *, identity: str = "", runs: Iterable[Run] = ()
    ) -> None:
        """One complete answer. `identity` and `runs`: of which file it sent which bytes."""
        self.metrics.answers[asker][reason] += 1
        self.metrics.sent_bytes[asker][reason] += sent_bytes
        for start, end in runs:
            self.metrics.distinct_bytes.value += self._seen.add(identity, start, end)

    def on_control(self, sent_bytes: Mapping[Control, int]) -> None:
        """Bytes sent beside the content, in an answer complete or not."""
        for kind, count in sent_bytes.items():
            self.metrics.control_bytes[kind] += count

    def by_reason(self) -> dict[str, int]:
        """Body bytes of all askers."""
        rows = self.metrics.sent_bytes.values()
        return {str(reason): sum(row[reason] for row in rows) for reason in Reason}


def read_reason(word: str | None) -> Reason:
    """`Starling-Reason` of a plain GET; whoever gives none takes part in no swarm."""
    try:
        return Reason(word) if word else Reason.STANDALONE
    except ValueError:
        return Reason.STANDALONE


__all__ = ["DIRECT", "OriginLedger", "Run", "read_reason"]
