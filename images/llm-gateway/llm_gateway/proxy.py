"""One request for inference from its parsed body to the end of its answer: cache, model service, cache."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import orjson
from aiohttp import ClientConnectionError, ClientConnectionResetError, ClientPayloadError, ClientResponse, web
from http_service.errors import ApiError

from llm_gateway import affinity, cache_policy, completion, stream_usage, versions
from llm_gateway.access_log import Record
from llm_gateway.attempts import Attempts
from llm_gateway.cache import CacheStore, CacheUnavailableError
from llm_gateway.config import GatewayConfig, ModelRoute
from llm_gateway.errors import from_upstream
from llm_gateway.identity import Identity
from llm_gateway.inference import Inference
from llm_gateway.json_fields import parse_object
from llm_gateway.metrics import Metrics
from llm_gateway.semantic_cache import Lookup, SemanticCache
from llm_gateway.semantic_question import question
from llm_gateway.shadow import Shadows
from llm_gateway.stream_capture import StreamCapture
from llm_gateway.upstream import EVENT_STREAM, Answer, Target, UnreachableError, Upstream

_FORWARDED_HEADERS = ("accept", "traceparent", "tracestate")
_STREAM_HEADERS = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_LAST_WORDS_SECONDS = 5
_HOLD_SECONDS = 0.5
"""Between two looks whether a model that is scaled to zero has a pod."""
_STREAM_BYTES_PER_ENTRY_BYTE = 16
"""A stream is longer than the answer in it; what is kept of one, to be put together at its end, is bounded by this."""


class _Stream(web.StreamResponse):
    """An answer whose headers go out with its first part: one call of the system less before the first token."""

    _send_headers_immediately = False


class CallerGoneError(Exception):
    """The caller closed its connection before its answer was complete."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What answers requests: replaced as a whole when the configuration changes."""

    config: GatewayConfig
    upstream: Upstream
    cache: CacheStore | None
    semantic: SemanticCache | None
    shadows: Shadows
    metrics: Metrics
    identity: Identity | None = None


class Exchange:
    """One request on its way. `headers` go on its answer, and with `close` the caller is to use another connection."""

    def __init__(
        self,
        backend: Backend,
        request: web.Request,
        inference: Inference,
        record: Record,
        headers: dict[str, str],
        *,
        close: bool = False,
    ) -> None:
        self._backend = backend
        self._request = request
        self._inference = inference
        self._record = record
        self._headers = headers
        self._close = close
        self._route: ModelRoute = backend.config.routes[inference.model]
        self._version, self._named = versions.select(self._route, inference, request.headers)
        record.version = self._version.name
        self._attempts = Attempts(backend.metrics, record, waits=self._route.hold)
        self._key: str | None = None
        self._similar: Lookup | None = None
        self._charges = backend.config.limits.tokens_per_minute > 0
        self._response: web.StreamResponse | None = None
        self._capture = StreamCapture(0)
        self._held = False
        self._between_events = True
        self._body = stream_usage.asking(inference)

    async def answer(self) -> web.StreamResponse:
        """Answers the request.

        Raises ApiError where no answer has begun and there will be none, CallerGoneError where nobody waits for one.
        """
        try:
            async with asyncio.timeout(self._route.timeout_seconds):
                cached = await self._lookup()
                if cached is not None:
                    return cached
                with self._in_flight():
                    return await self._forward()
        except TimeoutError:
            if self._held:
                raise self._no_pod() from None
            kind, status = "timeout", 504
            message = f"The model did not answer within {self._route.timeout_seconds:g} seconds."
        except (ClientConnectionError, ClientPayloadError):
            kind, status = "incomplete", 502
            message = "The model stopped before the answer was complete."
        self._attempts.count_failure(kind)
        error = ApiError(status, message, kind="upstream_error", code=kind)
        if self._response is None:
            raise error
        return await self._break_off(self._response, error)

    async def _lookup(self) -> web.StreamResponse | None:
        """The answer from the cache; None, and the record says why, where it has none."""
        record, cache = self._record, self._backend.cache
        record.cache = "bypass"
        if cache is None:
            record.cache_reason = "disabled"
            return None
        record.cache_reason = cache_policy.bypass_reason(
            self._inference, self._request.headers, self._backend.config.cache
        )
        if record.cache_reason:
            return None
        key = cache_policy.key(self._inference, record.tenant, self._version.revision)
        fresh = cache_policy.wants_fresh(self._request.headers)
        try:
            with record.trace.step("cache lookup"):
                value = None if fresh else await cache.get(key)
        except CacheUnavailableError:
            record.cache_reason = "unavailable"
            return None
        self._key = key
        body = None if value is None else self._from_cache(value)
        if body is None and not fresh:
            body = await self._from_similar()
        record.cache = "miss" if body is None else "hit"
        if body is None:
            return None
        if self._inference.stream:
            return await self._replay(body)
        return web.Response(body=body, headers=self._answer_headers("application/json"))

    def _in_flight(self) -> AbstractContextManager[None]:
        """Counts the request, while it lasts, for the model whose pods answer it: they are scaled by that."""
        model = self._backend.config.adapters.get(self._inference.model, self._inference.model)
        return self._backend.metrics.model_in_flight.labels(model).track_inprogress()

    async def _from_similar(self) -> bytes | None:
        """The body that answers this request from the answer to a question that means the same, if that is wanted."""
        semantic, route, record = self._backend.semantic, self._route.semantic_cache, self._record
        if semantic is None or route is None:
            return None
        asked = question(self._inference, record.tenant, self._version.revision, semantic.max_question_chars)
        if asked is None:
            return None
        with record.trace.step("semantic lookup"):
            self._similar = found = await semantic.look(self._inference.model, asked, route, self._from_cache)
        if found is None:
            return None
        record.similarity = found.similarity
        record.cache_reason = "" if found.answer is None else "semantic"
        return found.answer

    def _from_cache(self, value: bytes) -> bytes | None:
        """The body that answers this request from a cached answer; None where that answer does not suffice."""
        answer = parse_object(value)
        if answer is None:
            return None
        endpoint, fields = self._inference.endpoint, self._inference.fields
        self._count_tokens(completion.token_counts(answer))
        if self._inference.stream:
            return completion.replay(endpoint, answer, include_usage=stream_usage.is_asked(fields))
        # An answer put together from a stream may lack the token counts, which a whole answer always has.
        return value if "usage" in answer or "generated_text" in answer else None

    async def _replay(self, body: bytes) -> web.StreamResponse:
        response = _Stream(headers=self._answer_headers(EVENT_STREAM))
        await self._begin(response)
        self._record.saw_first_token()
        await self._write(response, body)
        return await self._end(response)

    async def _forward(self) -> web.StreamResponse:
        upstream = self._backend.upstream
        if self._route.shadows and not self._named:
            limit = self._backend.config.upstream.shadow_concurrency
            self._backend.shadows.send(upstream, self._route, self._inference, self._upstream_headers(), limit)
        try:
            answer = await (self._hold(upstream) if self._route.hold else self._send(upstream))
        except UnreachableError as error:
            self._fail_over(error)
            answer = await self._send(upstream)
        self._record.tries += 1
        try:
            if answer.streams:
                return await self._pass_stream(answer)
            body = await upstream.read(answer)
        finally:
            self._record.trace.try_answered(answer.status)
            upstream.release(answer)
        response = answer.response
        if response.status >= 400:
            if response.status >= 500:
                self._attempts.count_failure(f"status_{response.status}")
            raise from_upstream(response.status, body, response.headers.get("Retry-After", ""))
        return self._whole(response, body)

    async def _send(self, upstream: Upstream) -> Answer:
        key = None
        if self._version.pods_url is not None:
            key = affinity.prefix_key(self._inference, self._request.headers.get(versions.SESSION_HEADER, ""))
        target = Target(self._version, self._inference.endpoint, key, waits=self._route.hold)
        return await upstream.send(target, self._body, self._upstream_headers(), self._attempts)

    async def _hold(self, upstream: Upstream) -> Answer:
        """Sends the request as soon as a pod takes it; until then it counts as one that the autoscaler sees."""
        while True:
            try:
                answer = await self._send(upstream)
            except UnreachableError as error:
                if error.sent:
                    raise
                self._held = True
                await asyncio.sleep(_HOLD_SECONDS)
            else:
                self._held = False
                return answer

    def _no_pod(self) -> ApiError:
        self._attempts.count_failure("no_pod")
        seconds = self._route.timeout_seconds
        return ApiError(
            503,
            f"The model is starting, and was not ready within {seconds:g} seconds. Ask again.",
            kind="upstream_error",
            code="model_starting",
            headers={"Retry-After": "30"},
        )

    def _fail_over(self, error: UnreachableError) -> None:
        """Goes on with another version; raises `error` where there is none, or it would not be safe.

        A request that a service may have got is not given to another version: it may be what has stopped the service.
        """
        other = None if self._named or error.sent else versions.second_choice(self._route, self._version)
        if other is None:
            raise error
        self._backend.metrics.failovers.labels(self._inference.model, self._version.name).inc()
        self._version, self._key, self._similar = (
            other,
            None,
            None,
        )  # its answer is not one for the revision that was looked up
        self._record.version = other.name

    def _whole(self, response: ClientResponse, body: bytes) -> web.Response:
        answer = parse_object(body)
        if answer is not None:
            self._charge(completion.token_counts(answer))
            if response.status == 200 and completion.is_complete(self._inference.endpoint, answer):
                self._store(body)
        content_type = response.headers.get("Content-Type", "application/octet-stream")
        return web.Response(status=response.status, body=body, headers=self._answer_headers(content_type))

    async def _pass_stream(self, answer: Answer) -> web.StreamResponse:
        """Passes each part on as it comes, and keeps it for the cache."""
        if self._key is not None:
            self._capture = StreamCapture(self._backend.config.cache.max_entry_bytes * _STREAM_BYTES_PER_ENTRY_BYTE)
        capture = self._capture
        response = _Stream(status=answer.status, headers=self._answer_headers(EVENT_STREAM))
        await self._begin(response)
        shown = stream_usage.WholeEvents(asked=stream_usage.is_asked(self._inference.fields))
        while part := await answer.part():
            self._record.saw_first_token()
            await self._write(response, shown.feed(part))
            capture.feed(part)
        await self._write(response, shown.rest())
        self._charge(capture.token_counts())
        whole = capture.whole
        if self._key is not None and whole is not None:
            assembled = completion.assemble(self._inference.endpoint, whole)
            if assembled is not None:
                self._store(orjson.dumps(assembled))
        return await self._end(response)

    async def _begin(self, response: web.StreamResponse) -> None:
        if self._close:
            response.force_close()
        try:
            await response.prepare(self._request)
        except ClientConnectionResetError as error:
            raise CallerGoneError from error
        self._response = response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if not data:
            return
        self._between_events = data.endswith((b"\n\n", b"\r\n\r\n"))
        try:
            await response.write(data)
        except ClientConnectionResetError as error:
            raise CallerGoneError from error

    async def _end(self, response: web.StreamResponse) -> web.StreamResponse:
        try:
            await response.write_eof()
        except ClientConnectionResetError as error:
            raise CallerGoneError from error
        return response

    async def _break_off(self, response: web.StreamResponse, error: ApiError) -> web.StreamResponse:
        """Ends a stream that will not be complete with an event that says so, and without its end mark."""
        self._record.error = error.code or error.kind
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                separator = b"" if self._between_events else b"\n\n"
                await self._write(response, separator + b"data: " + error.body() + b"\n\n")
                return await self._end(response)
        except TimeoutError:
            # The caller does not read: nothing more can be said to it.
            if self._request.transport is not None:
                self._request.transport.abort()
            return response

    def _store(self, answer: bytes) -> None:
        backend = self._backend
        if backend.cache is None or self._key is None:
            return
        accepted = backend.cache.put(self._key, answer)
        if accepted and self._similar is not None and backend.semantic is not None:
            backend.semantic.put(self._similar, self._key)

    def _answer_headers(self, content_type: str) -> dict[str, str]:
        headers = {**self._headers, "Content-Type": content_type}
        if content_type == EVENT_STREAM:
            headers |= _STREAM_HEADERS
        if self._record.cache:
            headers["X-Cache"] = self._record.cache
        if self._record.cache_reason == "semantic":
            headers["X-Cache-Similarity"] = f"{self._record.similarity:.4f}"
        headers["X-Model-Version"] = self._record.version
        return headers

    def _upstream_headers(self) -> Mapping[str, str]:
        """Headers for the model's service: nothing that identifies or authenticates the caller."""
        headers = {"Content-Type": "application/json", "X-Request-Id": self._record.request_id}
        for name in _FORWARDED_HEADERS:
            value = self._request.headers.get(name)
            if value is not None:
                headers[name] = value
        return headers

    def _charge(self, counts: tuple[int | None, int | None]) -> None:
        self._count_tokens(counts)
        tokens = sum(count or 0 for count in counts)
        if self._charges and tokens and self._backend.cache is not None:
            self._backend.cache.charge(self._record.tenant, tokens)

    def _count_tokens(self, counts: tuple[int | None, int | None]) -> None:
        self._record.prompt_tokens, self._record.completion_tokens = counts
