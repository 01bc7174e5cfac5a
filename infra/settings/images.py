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
    """Which build of each image to run. Repositories: llm-gateway, model-loader, tgi, dcgm-exporter, device-plugin."""

    llm_gateway: ImageSettings
    """The LLM gateway."""
    model_loader: ImageSettings
    """The init container that fetches a model's weights."""
    tgi: ImageSettings
    """Text Generation Inference."""
    dcgm_exporter: ImageSettings
    """NVIDIA's DCGM exporter, a copy of nvcr.io/nvidia/k8s/dcgm-exporter."""
    device_plugin: ImageSettings | None = None
    """NVIDIA's device plugin, a copy of nvcr.io/nvidia/k8s-device-plugin, for pools whose image has none: AL2023's."""
