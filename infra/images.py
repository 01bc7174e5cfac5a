"""The images of a stack, by digest: what a tag names today must not be something else when a pod starts tomorrow."""

import pulumi
import pulumi_aws as aws

from infra.settings import Settings
from infra.settings.images import ImageSettings
from llm_serving.runtimes import RUNTIMES, embedder


class Images:
    """The ECR registry of a stack's account."""

    def __init__(self, settings: Settings, provider: aws.Provider):
        self._settings = settings.images
        self._registry = f"{settings.aws.account_id}.dkr.ecr.{settings.aws.region}.amazonaws.com"
        self._provider = provider

    def runtime(self, runtime: str) -> pulumi.Output[str]:
        """Return the image of a runtime; raise ValueError where the settings have none."""
        image = self._settings.of_runtime(runtime)
        if image is None:
            raise ValueError(f"images.{runtime}: is missing")
        return self.of(RUNTIMES[runtime].repository, image)

    def embedder(self, device: str) -> pulumi.Output[str]:
        """Return the embedder's image for `cpu` or `gpu`; raise ValueError where the settings have none."""
        image = self._settings.of_embedder(device)
        if image is None:
            raise ValueError(f"images: the embedder for {device} is missing")
        return self.of(embedder.REPOSITORY if device == "cpu" else embedder.CUDA_REPOSITORY, image)

    def of(self, repository: str, image: ImageSettings) -> pulumi.Output[str]:
        """Return an image of a repository, its tag looked up where the settings have no digest."""
        name = f"{self._registry}/{repository}"
        if image.digest:
            return pulumi.Output.from_input(f"{name}@{image.digest}")
        found = aws.ecr.get_image_output(
            repository_name=repository, image_tag=image.tag, opts=pulumi.InvokeOptions(provider=self._provider)
        )
        return pulumi.Output.concat(name, "@", found.image_digest)
