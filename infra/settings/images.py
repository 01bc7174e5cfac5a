"""Which build of each image an environment runs."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from infra.section import Section


class ImageSettings(Section):
    """An image in ECR: by tag, resolved to a digest when the stack is previewed, or by digest."""

    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", examples=["1.0.0"])] | None = None
    """Tag of the image."""
    digest: (
        Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", examples=["sha256: and 64 hexadecimal digits"])] | None
    ) = None
    """Digest of the image."""

    def problems(self) -> Iterator[str]:
        """Check that the image is named in one way."""
        if (self.tag is None) == (self.digest is None):
            yield "tag: set exactly one of tag and digest"


class ImagesSettings(Section):
    """Which build of each image to run. Repositories are named like the keys, as in llm-gateway."""

    llm_gateway: ImageSettings
    """The LLM gateway."""
    model_loader: ImageSettings
    """The init container that fetches a model's weights."""
    tgi: ImageSettings | None = None
    """Text Generation Inference; required where a model is served by it."""
    vllm: ImageSettings | None = None
    """vLLM; required where a model is served by it."""
    tensorrt_llm: ImageSettings | None = None
    """TensorRT-LLM; required where a model is served by it."""
    embedder: ImageSettings | None = None
    """The embedder for CPUs, images/embedder/Dockerfile.cpu; required where an embedding service runs on them."""
    embedder_cuda: ImageSettings | None = None
    """The embedder for a GPU, images/embedder/Dockerfile; required where an embedding service has one."""
    dcgm_exporter: ImageSettings
    """NVIDIA's DCGM exporter, a copy of nvcr.io/nvidia/k8s/dcgm-exporter."""
    device_plugin: ImageSettings | None = None
    """NVIDIA's device plugin, a copy of nvcr.io/nvidia/k8s-device-plugin, for pools whose image has none: AL2023's."""

    def of_embedder(self, device: str) -> ImageSettings | None:
        """Return the image of an embedding service, by its device."""
        return self.embedder if device == "cpu" else self.embedder_cuda

    def of_runtime(self, runtime: str) -> ImageSettings | None:
        """Return the image of a runtime, by the name that a model's settings give."""
        images = {"tgi": self.tgi, "vllm": self.vllm, "tensorrt-llm": self.tensorrt_llm}
        return images[runtime]
