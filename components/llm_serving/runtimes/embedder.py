"""The embedder of images/embedder: environment and probes of an embedding service. Pure."""

import math
from dataclasses import dataclass

from llm_serving.runtimes.launch import PORT, PRE_STOP_SECONDS, Launch

VERSION = "0.1.0"
REPOSITORY = "embedder"
"""ECR repository of the image for CPUs."""
CUDA_REPOSITORY = "embedder-cuda"
"""ECR repository of the image for a GPU."""
SYSTEM_POOL_MIB = 1024
"""Memory of a pod on CPUs in MiB. One thread takes 283 MiB at rest and 447 at most, measured over 256,000 tokens; two
take 466."""
GPU_POOL_MIB = 4096
"""Memory of a pod with a GPU in MiB: assumed, for PyTorch and CUDA's libraries."""
LEAST_MIB = 512
"""Less than this, and a pod is killed under load: see `SYSTEM_POOL_MIB`."""
STARTUP_SECONDS = 120
"""From its start to its first healthy answer: 3 s were measured on a CPU. PyTorch reads 5 GB of libraries first."""
_END_SECONDS = 10
"""For the last request to be written, and the process's own end."""


@dataclass(frozen=True)
class EmbedderSpec:
    """An embedding service, and the limits to serve within."""

    model: str
    """Name that requests give, and of the service."""
    gpu: bool = False
    """Whether it computes on one GPU, by the CUDA image, or on CPUs."""
    cpu_millicores: int = 1000
    """CPU that a pod asks for, in thousandths of a core: on CPUs, a thread for each one that is begun."""
    timeout_seconds: int = 60
    """Longest time for a request, in the queue and computed."""
    truncate: bool = False
    """Whether an input that is too long for the model is cut. If not, it is refused, as OpenAI does."""


def launch(spec: EmbedderSpec) -> Launch:
    """Return how to launch the embedder for `spec`.

    It opens its port once it has computed, and ends when the requests that it has are answered.
    """
    env = {
        "EMBEDDER_MODEL_NAME": spec.model,
        "EMBEDDER_REQUEST_TIMEOUT_SECONDS": str(spec.timeout_seconds),
        "EMBEDDER_DRAIN_DEADLINE_SECONDS": str(spec.timeout_seconds),
        "EMBEDDER_TRUNCATE": "true" if spec.truncate else "false",
    }
    if not spec.gpu:
        # CPUs are not limited, so it would take the whole node's, and get in the way of what else runs there.
        env["EMBEDDER_THREADS"] = str(math.ceil(spec.cpu_millicores / 1000))
    return Launch(
        args=["--port", str(PORT)],
        env=env,
        health_path="/health/ready",
        startup_seconds=STARTUP_SECONDS,
        grace_seconds=PRE_STOP_SECONDS + spec.timeout_seconds + _END_SECONDS,
    )
