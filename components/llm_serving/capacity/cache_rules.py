"""What a semantic cache on ElastiCache needs: an engine with vector search, memory for it, a token that AWS takes.

Source: the "Search features and limits" and "Authenticating with AUTH" pages of the ElastiCache user guide.
"""

import re
from collections.abc import Iterator

from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.stack import Stack

ENGINE = Check("CACHE_ENGINE", "error", "The cache has no vector search: that takes node-based Valkey.", ("F12",))
VERSION = Check(
    "CACHE_VERSION", "error", "The cache's Valkey is older than 8.2, the first with vector search.", ("F12",)
)
DATA_TIERING = Check("CACHE_DATA_TIERING", "error", "Nodes with data tiering have no vector search.", ("F12",))
RESERVED_MEMORY = Check(
    "CACHE_RESERVED_MEMORY", "warning", "A small burstable node needs more reserved memory for vector search.", ("F12",)
)
AUTH_TOKEN = Check("CACHE_AUTH_TOKEN", "error", "ElastiCache refuses this AUTH token.", ("F13",))
CHECKS = (ENGINE, VERSION, DATA_TIERING, RESERVED_MEMORY, AUTH_TOKEN)

FIRST_VERSION = (8, 2)
TIERED_FAMILIES = {"r6gd": "r7g"}
"""Families with data tiering, and the one of the same sizes without."""
RESERVED_PERCENT = {"micro": 50, "small": 30}
"""reserved-memory-percent that search needs on t2, t3 and t4g nodes, by size."""
BURSTABLE = ("t2", "t3", "t4g")
AUTH_SYMBOLS = "!&#$^<>-"
SHORTEST_AUTH, LONGEST_AUTH = 16, 128


def check(stack: Stack) -> Iterator[Finding]:
    """Yield what keeps the stack's cache from searching vectors."""
    cache = stack.cache
    if cache.engine != "valkey" or "serverless" in cache.node_type:
        found = "ElastiCache Serverless" if "serverless" in cache.node_type else cache.engine
        yield Finding(
            ENGINE.code,
            ENGINE.severity,
            "cache.engine" if cache.engine != "valkey" else "cache.nodeType",
            f"{found} has no vector search; nearest valid value: a node of Valkey 8.2 or newer, as cache.r7g.large",
            ("valkey",),
        )
    if cache.engine == "valkey" and _version(cache.engine_version) < FIRST_VERSION:
        yield Finding(
            VERSION.code,
            VERSION.severity,
            "cache.engineVersion",
            f"Valkey {cache.engine_version} has no vector search; nearest valid value: 8.2",
            ("8.2",),
        )
    family, _, size = cache.node_type.removeprefix("cache.").partition(".")
    if family in TIERED_FAMILIES:
        nearest = f"cache.{TIERED_FAMILIES[family]}.{size}"
        yield Finding(
            DATA_TIERING.code,
            DATA_TIERING.severity,
            "cache.nodeType",
            f"{cache.node_type} has data tiering and so no vector search; nearest valid value: {nearest}",
            (nearest,),
        )
    if family in BURSTABLE and size in RESERVED_PERCENT:
        nearest = f"cache.{family}.medium"
        yield Finding(
            RESERVED_MEMORY.code,
            RESERVED_MEMORY.severity,
            "cache.nodeType",
            f"{cache.node_type} searches vectors only with reserved-memory-percent {RESERVED_PERCENT[size]}, and the"
            f" cache's parameter group keeps the default of 25; nearest valid value: {nearest}",
            (nearest,),
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def check_auth_token(token: str, *, transit_encryption: bool, setting: str = "cache.authToken") -> Iterator[Finding]:
    """Yield why ElastiCache would refuse a token; names its length and characters, never the token.

    :param setting: What findings name.
    """
    if not transit_encryption:
        yield _refused(setting, "a token needs transit encryption; nearest valid value: TLS on")
    if not SHORTEST_AUTH <= len(token) <= LONGEST_AUTH:
        nearest = min(max(len(token), SHORTEST_AUTH), LONGEST_AUTH)
        yield _refused(
            setting,
            f"{len(token)} characters are outside {SHORTEST_AUTH} to {LONGEST_AUTH}; nearest valid length: {nearest}",
        )
    wrong = sorted({each for each in token if not (each.isascii() and each.isalnum()) and each not in AUTH_SYMBOLS})
    if wrong:
        yield _refused(
            setting,
            f"has {' '.join(map(repr, wrong))}; allowed besides letters and digits: {' '.join(AUTH_SYMBOLS)}",
        )


def _refused(setting: str, message: str) -> Finding:
    return Finding(AUTH_TOKEN.code, AUTH_TOKEN.severity, setting, message)
