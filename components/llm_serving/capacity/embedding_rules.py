"""Whether a GPU pool's nodes run the embedder's CUDA image: its driver, its GPU, its processor.

That the model fits is no question: 0.1 GB of weights, and the smallest whole GPU that there is has 15 GB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from llm_serving.capacity import cluster_rules, drivers, runtime_support
from llm_serving.capacity.catalog import InstanceType, RuntimeRelease
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.stack import Stack
from llm_serving.runtimes import embedder

RELEASE = RuntimeRelease(
    name="embedder",
    version=embedder.VERSION,
    image=f"{embedder.CUDA_REPOSITORY}:{embedder.VERSION}",
    cuda=(13, 0),
    framework_cuda=(13, 0),
    capabilities=((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    ptx_from=None,
    image_gb=5,
    memory_fraction=1,
)
"""The CUDA image: images/embedder/Dockerfile, and what the PyTorch 2.11.0 of its requirements says of itself
(`torch.version.cuda`, `torch._C._cuda_getArchFlags()`). Its packages take 4.8 GB as installed."""


@dataclass(frozen=True, slots=True)
class _Hosted:
    instance: InstanceType
    setting: str
    runtime: RuntimeRelease = RELEASE


def check(stack: Stack, *, today: date) -> Iterator[Finding]:
    """Yield why an embedding service does not run on the GPU pool that it is for.

    :param today: Day on which driver branches count as still maintained.
    """
    for service in stack.embeddings.values():
        if not service.gpus:
            continue
        pool = stack.gpu_pools[service.pool]
        image = drivers.node_image(pool.ami_type, pool.release_version, stack.kubernetes_version)
        for instance in cluster_rules.instances(pool):
            hosted = _Hosted(instance, service.setting)
            yield from runtime_support.check_image(hosted)
            if image is not None:
                yield from drivers.check(hosted, image, today=today)
