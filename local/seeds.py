"""What a preview must find: the account of the stack, and in it the images that the stack names by tag.

In a real account the image pipeline has pushed them; a throw-away one gets an empty image for each, so that the tag
has a digest.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
"""The digest of `{}`, an image's smallest configuration."""


def tagged_images(config: Mapping[str, Any]) -> dict[str, str]:
    """The ECR repositories and tags that a stack file names, such as `llm-gateway: 0.1.0`."""
    images: dict[str, dict[str, Any]] = config.get("config", {}).get("llm-serving:images") or {}
    return {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower(): str(image["tag"])
        for name, image in images.items()
        if "tag" in image
    }


def account(config: Mapping[str, Any]) -> dict[str, str]:
    """The variable that gives the emulator the account of a stack file: the program refuses to work in another."""
    named: dict[str, Any] = config.get("config", {}).get("llm-serving:aws") or {}
    return {"MINISTACK_ACCOUNT_ID": str(named["accountId"])} if "accountId" in named else {}


def put_images(ecr: Any, images: Mapping[str, str]) -> None:
    """Puts an empty image into each repository under its tag."""
    for repository, tag in images.items():
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": EMPTY, "size": 2},
            "layers": [],
            "annotations": {"org.opencontainers.image.ref.name": f"{repository}:{tag}"},
        }
        ecr.create_repository(repositoryName=repository)
        ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)
