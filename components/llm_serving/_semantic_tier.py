"""What the gateway's chart is told of the semantic tier of its cache, and the memory that the tier takes."""

import math
from typing import TYPE_CHECKING, Any

from llm_serving import _checks

if TYPE_CHECKING:
    from llm_serving.llm_gateway import LlmGatewayArgs, ModelRouteArgs, SemanticTierArgs

THRESHOLD = 0.95
"""Of bench/semantic_cache.md: with the guard, fewer than 1 % of its near misses are hits. The gateway's own default."""
MODEL = "all-MiniLM-L6-v2"
"""The model of the embedder's images, and the gateway's own."""
MEMORY_MIB = 256
"""Memory of a gateway pod, by default."""
IN_PROCESS_MIB = 480
"""Least memory of a gateway that embeds itself, in MiB: 444 were measured in its image after 400 texts of up to 256
tokens, 79 of them without the model; 28 more are taken by 1,000 requests that it holds (bench/gateway.json)."""
ENTRY_KIB = 2.7
"""Memory of a question in a gateway pod: 265 MiB were measured for 100,000 (bench/semantic_cache.json)."""


def check_memory(name: str, memory_mib: int, max_entries: int) -> None:
    """Check that a gateway that embeds itself has the memory for its model and its questions; raises ValueError."""
    least = IN_PROCESS_MIB + math.ceil(max_entries * ENTRY_KIB / 1024)
    if memory_mib < least:
        raise ValueError(
            f"{name}: {memory_mib} MiB is too little for a gateway that embeds itself and keeps {max_entries:,}"
            f" questions; nearest valid value: {least}"
        )


def tier(args: "LlmGatewayArgs") -> dict[str, Any]:
    """Return the chart's `cache.semantic`; raises ValueError where models ask for a tier that isn't there."""
    asking = [name for name, route in args["models"].items() if "semantic_cache" in route]
    found = args.get("semantic_cache")
    if asking and (found is None or not args.get("cache_enabled", True)):
        raise ValueError(
            f"models.{asking[0]}.semantic_cache: needs the gateway's semantic_cache, and cache_enabled;"
            " nearest valid value: none"
        )
    if found is None:
        return {}
    timeout = _checks.whole(
        "semantic_cache.timeout_milliseconds", found.get("timeout_milliseconds", 250), low=10, high=10_000, unit="ms"
    )
    most = _checks.whole("semantic_cache.max_entries", found.get("max_entries", 20_000), low=1, high=1_000_000)
    each = _checks.whole(
        "semantic_cache.max_partition_entries", found.get("max_partition_entries", 2000), low=1, high=1_000_000
    )
    if "embedder_url" not in found and args.get("cache_enabled", True):
        check_memory("memory_mib", int(args.get("memory_mib", MEMORY_MIB)), most)
    return {
        **_embedder(found),
        "timeout_seconds": timeout / 1000,
        "max_entries": most,
        "max_partition_entries": each,
    }


def _embedder(found: "SemanticTierArgs") -> dict[str, str]:
    """Return where questions are embedded: nothing where the gateway does it."""
    if "embedder_url" in found:
        named = {"vector_model": found["vector_model"]} if "vector_model" in found else {}
        return {"embedder_url": found["embedder_url"], "embedder_model": found.get("embedder_model", MODEL), **named}
    for name in ("embedder_model", "vector_model"):
        if found.get(name, MODEL) != MODEL:
            raise ValueError(
                f"semantic_cache.{name}: {found.get(name)!r} needs embedder_url, as the gateway itself has another"
                f" model; nearest valid value: {MODEL}"
            )
    return {}


def route(model: str, args: "ModelRouteArgs") -> dict[str, Any]:
    """Return what a model's route in the chart has of it; raises ValueError for another mode or threshold."""
    found = args.get("semantic_cache")
    if found is None:
        return {}
    mode = _checks.one_of(f"models.{model}.semantic_cache.mode", found["mode"], ("answer", "shadow"))
    threshold = float(found.get("threshold", THRESHOLD))
    if not 0 < threshold <= 1:
        raise ValueError(
            f"models.{model}.semantic_cache.threshold: {threshold:g} is not above 0 and up to 1;"
            f" nearest valid value: {THRESHOLD if threshold <= 0 else 1}"
        )
    return {"semantic_cache": {"mode": mode, "threshold": threshold}}
