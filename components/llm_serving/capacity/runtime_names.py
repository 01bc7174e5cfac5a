"""The runtimes' names and what their messages call them."""

from llm_serving.capacity.catalog import RuntimeRelease

TGI = "tgi"
VLLM = "vllm"
TENSORRT_LLM = "tensorrt-llm"

_TITLES = {TGI: "TGI", VLLM: "vLLM", TENSORRT_LLM: "TensorRT-LLM", "embedder": "Embedder"}


def title(runtime: RuntimeRelease) -> str:
    """Return a release as a message names it: `TGI 3.3.7`."""
    return f"{_TITLES.get(runtime.name, runtime.name)} {runtime.version}"
