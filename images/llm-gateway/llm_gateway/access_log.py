"""Structured logs, one JSON object a line. Nothing of a prompt, an answer or a key is ever written."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter

from llm_gateway.metrics import Metrics
from llm_gateway.tracing import UNTRACED, Trace

_log = logging.getLogger("llm_gateway.access")


@dataclass(slots=True)
class Record:
    """What is known about one request; filled in as it is answered, then counted and logged once."""

    request_id: str
    method: str
    endpoint: str
    started: float = field(default_factory=time.monotonic)
    """Seconds on the monotonic clock."""
    model: str = ""
    version: str = ""
    """Of the model: the one that answered or was asked last."""
    tenant: str = ""
    stream: bool = False
    status: int = 0
    error: str = ""
    cache: str = ""
    cache_reason: str = ""
    similarity: float | None = None
    """Of the question that means the same, where the semantic cache knows one."""
    tries: int = 0
    first_token: float | None = None
    """Seconds from the request's arrival."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    trace: Trace = UNTRACED
    """Its spans, where it is traced."""

    def saw_first_token(self) -> None:
        """Notes the time of the answer's first bytes; later calls change nothing."""
        if self.first_token is None:
            self.first_token = time.monotonic() - self.started

    def finish(self, metrics: Metrics) -> None:
        """Counts and logs the request."""
        elapsed = time.monotonic() - self.started
        metrics.requests.labels(self.model, self.version, self.endpoint, str(self.status)).inc()
        metrics.duration.labels(self.model, self.version, self.endpoint).observe(elapsed)
        if self.first_token is not None:
            metrics.first_token.labels(self.model, self.version).observe(self.first_token)
        if self.cache:
            metrics.cache_results.labels(self.model, self.cache, self.cache_reason).inc()
        self._count_tokens(metrics.cache_tokens_saved if self.cache == "hit" else metrics.tokens)
        if _log.isEnabledFor(logging.INFO):
            _log.info("request", extra={"fields": self._fields(elapsed)})
        self.trace.finish(self)

    def _count_tokens(self, counter: Counter) -> None:
        if self.prompt_tokens:
            counter.labels(self.model, "prompt").inc(self.prompt_tokens)
        if self.completion_tokens:
            counter.labels(self.model, "completion").inc(self.completion_tokens)

    def _fields(self, elapsed: float) -> dict[str, Any]:
        known: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "endpoint": self.endpoint,
            "status": self.status,
            "duration_ms": round(elapsed * 1000, 2),
            "model": self.model or None,
            "version": self.version or None,
            "tenant": self.tenant or None,
            "stream": self.stream or None,
            "cache": self.cache or None,
            "cache_reason": self.cache_reason or None,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "tries": self.tries or None,
            "first_token_ms": None if self.first_token is None else round(self.first_token * 1000, 2),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "error": self.error or None,
            "trace_id": self.trace.trace_id or None,
        }
        return {name: value for name, value in known.items() if value is not None}
