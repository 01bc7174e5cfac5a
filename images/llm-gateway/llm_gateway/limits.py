"""How much one API key may use: requests and tokens a minute, counted in Redis for all replicas together.

The window slides: it is the current minute's count and, of the minute before, the share that the last 60 seconds still
reach back into. That takes two numbers for each count, where a log of every request would take one entry each, and it
knows no moment at which a whole new budget falls due. It errs only as far as the previous minute's requests were not
spread evenly over it.

A request is admitted while the key has tokens left, and charged what the model reports once it has answered, as
Envoy AI Gateway does: what a request will cost is not known before, and a reservation of `max_tokens` would refuse
callers for tokens that no model generates. So the requests in flight may take a key past its tokens once, and it waits
for longer then. An answer from the cache costs no tokens.

A Redis that fails lets every request through: limits share out capacity, they are not what protects a model from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from http_service.errors import ApiError

from llm_gateway.config import LimitsConfig

WINDOW_SECONDS = 60
_PREFIX = "llm-gateway:limits:1:"

_ROLL = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local window = math.floor(now / 60)
local kept = redis.call('HMGET', KEYS[1], 'window', 'requests', 'requests_before', 'tokens', 'tokens_before')
local number = function(index) return tonumber(kept[index] or '0') end
local age = window - number(1)
local requests, requests_before, tokens, tokens_before = number(2), number(3), number(4), number(5)
if age == 1 then
  requests, requests_before, tokens, tokens_before = 0, requests, 0, tokens
elseif age ~= 0 then
  requests, requests_before, tokens, tokens_before = 0, 0, 0, 0
end
local elapsed = now / 60 - window
local keep = function()
  redis.call('HSET', KEYS[1], 'window', window, 'requests', requests, 'requests_before', requests_before,
    'tokens', tokens, 'tokens_before', tokens_before)
  redis.call('EXPIRE', KEYS[1], 120)
end
"""
"""Redis's clock, not a replica's, so that all of them are in the same minute. One hash is a key's whole state: the
script touches no other, as a cluster demands."""

ADMIT = (
    _ROLL
    + """
local requests_limit, tokens_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local room = requests_limit == 0 or requests + requests_before * (1 - elapsed) + 1 <= requests_limit
local funds = tokens_limit == 0 or tokens + tokens_before * (1 - elapsed) + 1 <= tokens_limit
local admitted = 0
if room and funds then
  admitted, requests = 1, requests + 1
  keep()
end
return {admitted, requests, requests_before, tokens, tokens_before, tostring(elapsed)}
"""
)
"""Counts a request in where both limits (0 is none) allow it; otherwise it changes nothing."""

CHARGE = _ROLL + "tokens = tokens + tonumber(ARGV[1])\nkeep()\nreturn 0\n"


@dataclass(frozen=True, slots=True)
class Window:
    """A count in the current minute and in the one before, `elapsed` (0 to 1) of the current one being over."""

    now: int
    before: int
    elapsed: float

    @property
    def used(self) -> float:
        """The count of the last 60 seconds."""
        return self.now + self.before * (1 - self.elapsed)

    def remaining(self, limit: int) -> int:
        """What is left of `limit`."""
        return max(0, math.floor(limit - self.used))

    def wait_seconds(self, limit: int) -> float:
        """Time until one more fits into `limit`, if nothing else comes; 0 where it fits now."""
        room = limit - 1
        if self.used <= room:
            return 0.0
        if self.now <= room:
            return WINDOW_SECONDS * (1 - (room - self.now) / self.before - self.elapsed)
        return WINDOW_SECONDS * (1 - self.elapsed + 1 - room / self.now)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands after it asked for one more request."""

    admitted: bool
    requests: Window
    tokens: Window

    @classmethod
    def of(cls, reply: Sequence[int | bytes]) -> "Standing":
        """What the script ADMIT returned."""
        admitted, requests, requests_before, tokens, tokens_before = (int(value) for value in reply[:5])
        elapsed = float(reply[5])
        return cls(bool(admitted), Window(requests, requests_before, elapsed), Window(tokens, tokens_before, elapsed))

    def headers(self, limits: LimitsConfig) -> dict[str, str]:
        """The headers that OpenAI's API has for it."""
        found: dict[str, str] = {}
        for name, limit, window in self._each(limits):
            found[f"x-ratelimit-limit-{name}"] = str(limit)
            found[f"x-ratelimit-remaining-{name}"] = str(window.remaining(limit))
            found[f"x-ratelimit-reset-{name}"] = f"{window.wait_seconds(limit):.3f}s"
        return found

    def refusal(self, limits: LimitsConfig) -> ApiError:
        """The 429 of a request that was not admitted."""
        name, limit, window = max(self._each(limits), key=lambda each: each[2].wait_seconds(each[1]))
        wait = math.ceil(window.wait_seconds(limit))
        return ApiError(
            429,
            f"Rate limit reached for this API key: {limit} {name} per minute, of which {math.ceil(window.used)} are"
            f" used. Try again in {wait} s.",
            kind=name,
            code="rate_limit_exceeded",
            headers={**self.headers(limits), "Retry-After": str(max(1, wait))},
        )

    def _each(self, limits: LimitsConfig) -> list[tuple[str, int, Window]]:
        both = (
            ("requests", limits.requests_per_minute, self.requests),
            ("tokens", limits.tokens_per_minute, self.tokens),
        )
        return [(name, limit, window) for name, limit, window in both if limit]


def redis_key(tenant: str) -> str:
    """Where a tenant's counts are."""
    return _PREFIX + tenant
