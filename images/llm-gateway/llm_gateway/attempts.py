"""What is counted of a request on its way to a model's service."""

from collections.abc import Mapping
from dataclasses import dataclass

from llm_gateway.access_log import Record
from llm_gateway.metrics import Metrics
from llm_gateway.upstream import NOT_CONNECTED


@dataclass(frozen=True, slots=True)
class Attempts:
    """The tries of one request: its record's, and the metrics of the model and the version that the record names."""

    metrics: Metrics
    record: Record
    waits: bool
    """Whether it may wait for a first pod, so that none is no failure of one."""

    def routed(self, how: str) -> None:
        """Counts by what its pod was chosen."""
        self.metrics.pod_choices.labels(*self._labels, how).inc()

    def began(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of a try, which join the model to the request's trace."""
        return self.record.trace.try_began(url, headers)

    def failed(self, kind: str, *, again: bool) -> None:
        """Counts a try that failed, and the next one where there is one."""
        self.record.tries += 1
        self.record.trace.try_failed(kind)
        if self.waits and kind in NOT_CONNECTED:
            return
        self.count_failure(kind)
        if again:
            self.metrics.upstream_retries.labels(*self._labels, kind).inc()

    def ejected(self) -> None:
        """Counts a pod that is left out."""
        self.metrics.ejections.labels(*self._labels).inc()

    def over_budget(self) -> None:
        """Counts a try that there was no budget for."""
        self.metrics.retries_refused.labels(*self._labels).inc()

    def count_failure(self, kind: str) -> None:
        """Counts a failure of the service towards the request."""
        self.metrics.upstream_errors.labels(*self._labels, kind).inc()

    @property
    def _labels(self) -> tuple[str, str]:
        return self.record.model, self.record.version
