"""What the gateway's chart is told of the semantic tier of its cache."""

from typing import TYPE_CHECKING, Any

from llm_serving import _checks

if TYPE_CHECKING:
    from llm_serving.llm_gateway import LlmGatewayArgs, ModelRouteArgs

THRESHOLD = 0.95
"""Of bench/semantic_cache.md: with the guard, fewer than 1 % of its near misses are hits. The gateway's own default."""


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
    return {
        "embedder_url": found["embedder_url"],
        "embedder_model": found.get("embedder_model", "all-MiniLM-L6-v2"),
        "timeout_seconds": timeout / 1000,
        "max_entries": most,
        "max_partition_entries": each,
    }


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
