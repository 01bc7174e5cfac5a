"""Inference runtimes: one pure module each, turning what is to be served into arguments, environment and probes."""

from collections.abc import Callable
from dataclasses import dataclass

from llm_serving.observability import runtime_metrics
from llm_serving.observability.runtime_metrics import RuntimeMetrics
from llm_serving.runtimes import tensorrt_llm, tgi, vllm
from llm_serving.runtimes.launch import Launch, ServiceSpec


@dataclass(frozen=True)
class Runtime:
    """A runtime by its image, its metrics and its way to launch a service."""

    repository: str
    """ECR repository of its image."""
    version: str
    """The version that its image pins, and that everything here was read in."""
    launch: Callable[[ServiceSpec], Launch]
    """Returns how to launch a service; raises ValueError for what the runtime would refuse at its start."""
    title: str
    """What messages call it."""

    @property
    def metrics(self) -> RuntimeMetrics:
        """What this version exports, and at which path."""
        return runtime_metrics.runtime(self.repository, self.version)


RUNTIMES = {
    "tgi": Runtime("tgi", tgi.VERSION, tgi.launch, "TGI"),
    "vllm": Runtime("vllm", vllm.VERSION, vllm.launch, "vLLM"),
    "tensorrt-llm": Runtime("tensorrt-llm", tensorrt_llm.VERSION, tensorrt_llm.launch, "TensorRT-LLM"),
}
"""The runtimes by the name that a model's settings give, which is that of their image's repository too."""
