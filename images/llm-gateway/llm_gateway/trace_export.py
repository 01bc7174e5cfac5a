"""Spans of the requests that are traced, by OpenTelemetry's conventions, and their way to the collector.

A span holds what the access log holds: names, numbers and hashes, never text of a prompt or an answer, nor a key. A
thread of its own sends spans; a collector that is down or slow costs spans, not requests.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter

from llm_gateway.access_log import Record
from llm_gateway.config import TracesConfig
from llm_gateway.inference import Endpoint
from llm_gateway.metrics import Metrics
from llm_gateway.tracing import UNTRACED, Trace, is_sampled

_MOST_WAITING = 2048
"""Spans, some kB each; what comes beyond is dropped."""
_MOST_FAILED_TRIES = 16
"""Of one request that have a span: one that waits for a model's first pod may fail hundreds of times."""
_EXPORT_SECONDS = 5
"""For one batch, the exporter's own retries included."""
_CLOSE_SECONDS = 3
"""For what waits when the gateway ends: less than what its pod has left after the drain deadline."""
_OPERATIONS = {Endpoint.CHAT: "chat", Endpoint.EMBEDDINGS: "embeddings"}
_PROPAGATOR = TraceContextTextMapPropagator()
_KNOWN_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

Attributes = dict[str, str | int | float | bool]


class Tracer:
    """Traces requests under one configuration."""

    def __init__(self, config: TracesConfig, metrics: Metrics) -> None:
        self._percent = config.sample_percent
        exporter = OTLPSpanExporter(endpoint=f"{config.endpoint}/v1/traces", timeout=_EXPORT_SECONDS)
        self._processor = _BoundedProcessor(exporter, metrics.spans)
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # a request that is not sampled gets no span at all
            resource=Resource({"service.name": "llm-gateway", "k8s.pod.name": socket.gethostname()}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("llm_gateway")

    def begin(self, headers: Mapping[str, str], record: Record) -> Trace:
        """The trace of a request whose headers these are."""
        traceparent = headers.get("traceparent")
        if not is_sampled(traceparent, self._percent):
            return UNTRACED
        carrier = {"traceparent": traceparent or "", "tracestate": headers.get("tracestate", "")}
        return _RequestTrace(self, _PROPAGATOR.extract(carrier, Context()), record)

    def start(self, name: str, parent: Context, kind: SpanKind, attributes: Attributes | None = None) -> Span:
        """A span that has begun."""
        return self._tracer.start_span(name, parent, kind, attributes)

    async def close(self) -> None:
        """Sends what waits, for some seconds at most."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        until = time.monotonic() + _CLOSE_SECONDS
        while closing.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - a thread is waited for
            await asyncio.sleep(0.02)


class _RequestTrace(Trace):
    def __init__(self, tracer: Tracer, parent: Context, record: Record) -> None:
        self._tracer = tracer
        self._record = record
        known = record.endpoint.startswith("/")  # a path that is no route is the caller's text
        method = record.method if record.method in _KNOWN_METHODS else "_OTHER"
        name = f"{method} {record.endpoint}" if known else method
        attributes: Attributes = {"http.request.method": method, "url.scheme": "http"}
        if known:
            attributes |= {"http.route": record.endpoint, "url.path": record.endpoint}
        self._span = tracer.start(name, parent, SpanKind.SERVER, attributes)
        self._within = set_span_in_context(self._span, parent)
        self._try: Span | None = None
        self._try_ended: int | None = None
        self._tries = 0
        self.trace_id = f"{self._span.get_span_context().trace_id:032x}"

    @contextmanager
    def step(self, name: str, /) -> Generator[None]:
        span = self._tracer.start(name, self._within, SpanKind.INTERNAL)
        try:
            yield
        finally:
            span.end()

    def try_began(self, url: str, headers: Mapping[str, str], /) -> Mapping[str, str]:
        address = urlsplit(url)
        attributes: Attributes = {"http.request.method": "POST", "server.address": address.hostname or ""}
        attributes["server.port"] = address.port or (443 if address.scheme == "https" else 80)
        if self._tries:
            attributes["http.request.resend_count"] = self._tries
        self._tries += 1
        operation = _operation(self._record.endpoint)
        self._try = self._tracer.start(
            f"{operation} {self._record.model}", self._within, SpanKind.CLIENT, attributes | self._names()
        )
        self._try_ended = None
        joined = dict(headers)
        _PROPAGATOR.inject(joined, set_span_in_context(self._try, self._within))
        return joined

    def try_failed(self, kind: str, /) -> None:
        span, self._try = self._try, None
        if span is None or self._tries > _MOST_FAILED_TRIES:
            return  # a span that never ends is never sent
        _failed(span, kind)
        span.end()

    def try_answered(self, status: int, /) -> None:
        if self._try is None:
            return
        self._try.set_attribute("http.response.status_code", status)
        if status >= 400:
            _failed(self._try, str(status))
        self._try_ended = time.time_ns()

    def finish(self, record: Record, /) -> None:
        ended, usage, error = time.time_ns(), self._usage(), record.error
        broken = error or ("499" if record.status == 499 else "")
        if record.first_token is not None:
            began = ended - int((time.monotonic() - record.started - record.first_token) * 1e9)
            self._span.add_event("first_token", timestamp=began)
        if self._try is not None:
            self._try.set_attributes(usage)
            if broken and self._try_ended is None:
                _failed(self._try, broken)
            self._try.end(self._try_ended or ended)
        self._span.set_attributes(self._names() | usage | self._outcome())
        if record.status >= 500 or (broken and record.status < 400):
            _failed(self._span, broken or str(record.status))
        elif record.status >= 400:
            self._span.set_attribute("error.type", broken or str(record.status))
        self._span.end(ended)

    def _names(self) -> Attributes:
        record = self._record
        named: dict[str, str] = {"gen_ai.request.model": record.model, "llm_gateway.version": record.version}
        if record.endpoint in set(Endpoint):
            named["gen_ai.operation.name"] = _operation(record.endpoint)
        return {name: value for name, value in named.items() if value}

    def _usage(self) -> Attributes:
        record = self._record
        counts = {
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
        }
        return {name: count for name, count in counts.items() if count is not None}

    def _outcome(self) -> Attributes:
        record = self._record
        known: dict[str, str | int | float | bool | None] = {
            "http.response.status_code": record.status or None,
            "llm_gateway.request_id": record.request_id,
            "llm_gateway.tenant": record.tenant or None,
            "llm_gateway.stream": record.stream or None,
            "llm_gateway.cache": record.cache or None,
            "llm_gateway.cache_reason": record.cache_reason or None,
            "llm_gateway.similarity": record.similarity,
            "llm_gateway.tries": record.tries or None,
        }
        return {name: value for name, value in known.items() if value is not None}


class _BoundedProcessor(BatchSpanProcessor):
    """Takes no span beyond what may wait, and counts what became of each."""

    def __init__(self, exporter: SpanExporter, spans: Counter) -> None:
        self._counting = _CountingExporter(exporter, spans)
        self._dropped = spans.labels("dropped")
        self._taken = 0
        super().__init__(
            self._counting,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=1000,
            max_export_batch_size=512,
            export_timeout_millis=_EXPORT_SECONDS * 1000,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Called by the event loop alone, so that a count needs no lock."""
        if self._taken - self._counting.done >= _MOST_WAITING:
            self._dropped.inc()
            return
        self._taken += 1
        super().on_end(span)


class _CountingExporter(SpanExporter):
    def __init__(self, exporter: SpanExporter, spans: Counter) -> None:
        self._exporter = exporter
        self._exported, self._failed = spans.labels("exported"), spans.labels("failed")
        self.done = 0
        """Spans that no longer wait; written by the exporting thread alone."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            (self._exported if result is SpanExportResult.SUCCESS else self._failed).inc(len(spans))
            self.done += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _operation(endpoint: str) -> str:
    """The name of what an inference endpoint does, as the conventions have it."""
    return _OPERATIONS.get(Endpoint(endpoint), "text_completion")


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
