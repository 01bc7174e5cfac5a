"""What a finding calls a setting, and how lists are written in its message."""

import difflib
from collections.abc import Iterable

from llm_serving.capacity.placement import Hosted

GPUS = ("gpus", "--tp")
NODES = ("nodes", "--nodes")
MODEL = ("model", "--model")
RUNTIME = ("runtime", "--runtime")
INSTANCE = ("pool", "--instance")
DTYPE = ("dtype", "--dtype")
QUANTIZATION = ("quantization", "--quantization")
KV_CACHE_DTYPE = ("kvCacheDtype", "--kv-cache-dtype")
MAX_INPUT_TOKENS = ("maxInputTokens", "--max-input-tokens")
MAX_TOTAL_TOKENS = ("maxTotalTokens", "--max-total-tokens")
MAX_BATCH_PREFILL_TOKENS = ("maxBatchPrefillTokens", "--max-batch-prefill-tokens")
MAX_CONCURRENT_REQUESTS = ("maxConcurrentRequests", "--max-concurrent-requests")
GPU_MEMORY_UTILIZATION = ("gpuMemoryUtilization", "--gpu-memory-utilization")


def setting(placement: Hosted, names: tuple[str, str]) -> str:
    """Return the name under which the owner of a placement knows one of its fields.

    :param names: Key below `placement.setting` in a stack file, and option of the command line.
    """
    key, option = names
    return f"{placement.setting}.{key}" if placement.setting else option


def joined(values: Iterable[object]) -> str:
    """Write values as a message lists them: `1, 2, 4`."""
    return ", ".join(str(value) for value in values)


def capability(version: tuple[int, int]) -> str:
    """Write a compute capability or a CUDA version: `8.6`."""
    return f"{version[0]}.{version[1]}"


def nearest(value: str, choices: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return the choices that are spelled most like `value`, best first; all of them where none is."""
    known = list(choices)
    return tuple(difflib.get_close_matches(value, known, n=count, cutoff=0.45)) or tuple(known)
