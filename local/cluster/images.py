"""The container images of the environment: built where their content changed, pushed, and known to ECR.

Each is pushed under the name that it has on AWS or upstream, so that what the stack deploys, by digest, is what runs.
A key of everything that goes into an image decides whether it is built: with nothing changed buildah isn't started.

Tags. On AWS a repository's tags are immutable and name a release. Here an image is built anew while its version stays
the same, so the local repositories' tags may be moved: the tag that the local stack names always points at the last
build, and as the stack deploys the digest behind it, a moved tag is a rolling update.
"""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local.addresses import ECR_HOST, HOST_IP
from local.cluster import base_image, buildah, registry
from local.errors import LocalError
from local.paths import CACHE, ROOT
from local.toolchain import program

RECORDS = CACHE / "images"
LOCAL_TAG = "local"
"""The tag of our own images in stacks/Pulumi.local.yaml."""
TGI_TAG = "3.3.7"
"""The version of Text Generation Inference whose arguments and API the local image has."""
VLLM_TAG = "0.33.0"
"""The version of vLLM whose arguments and API the local image has."""
TENSORRT_LLM_TAG = "1.2.1"
"""The version of TensorRT-LLM whose arguments and API the local image has."""
MINIMUM_FREE_BYTES = 3_000_000_000
"""Disk needed while images are built: the base image's files three times over, and the layers of the others."""
RECORDS_KEPT = 3
"""Builds of one image whose layers `prune` keeps, so that switching branches builds nothing."""
_IGNORE = ROOT / "local" / "images" / "ignore"
_KUBERNETES = "registry.k8s.io"
_SERVICE = ROOT / "images" / "http-service"
_RUNTIME = ROOT / "local" / "images" / "runtime"
_GITHUB = "ghcr.io"
_FORMAT = "1"
"""Part of every key: a new value builds every image again."""


@dataclass(frozen=True)
class Recipe:
    """How an image is made, and what it is called."""

    name: str
    host: str
    repository: str
    tag: str
    context: Path
    on_base: bool = True
    programs: tuple[str, ...] = ()
    """Programs of the toolchain that the Dockerfile copies from the build context `programs`."""
    contexts: tuple[Path, ...] = ()
    """Other folders that the Dockerfile copies from, each a build context of the folder's name."""
    target: str = ""
    """The stage of the Dockerfile that the image is; the last one where it is empty."""
    file: str = "Dockerfile"
    """The Dockerfile's name in `context`."""

    @property
    def path(self) -> str:
        """The repository's path in the local registry."""
        return f"{self.host}/{self.repository}"


LOG_SHIPPER = Recipe(
    "log-shipper",
    "public.ecr.aws",
    "aws-observability/aws-for-fluent-bit",
    LOCAL_TAG,
    ROOT / "local/images/log-shipper",
)
"""What the controller runs for the add-on that ships logs, under the name of what the add-on runs."""
RECIPES = (
    Recipe("pause", _KUBERNETES, "pause", "3.10", ROOT / "local/images/pause", on_base=False, programs=("pause",)),
    Recipe("coredns", _KUBERNETES, "coredns/coredns", "v1.15.0", ROOT / "local/images/coredns", programs=("coredns",)),
    Recipe(
        "prometheus-operator",
        "quay.io",
        "prometheus-operator/prometheus-operator",
        "v0.85.0",
        ROOT / "local/images/prometheus-operator",
        programs=("operator",),
    ),
    Recipe(
        "prometheus-config-reloader",
        "quay.io",
        "prometheus-operator/prometheus-config-reloader",
        "v0.85.0",
        ROOT / "local/images/prometheus-config-reloader",
        programs=("prometheus-config-reloader",),
    ),
    Recipe(
        "prometheus",
        "quay.io",
        "prometheus/prometheus",
        "v3.16.0",
        ROOT / "local/images/prometheus",
        programs=("prometheus",),
    ),
    Recipe(
        "kube-state-metrics",
        _KUBERNETES,
        "kube-state-metrics/kube-state-metrics",
        "v2.18.0",
        ROOT / "local/images/kube-state-metrics",
        programs=("kube-state-metrics",),
    ),
    Recipe(
        "keda-operator", _GITHUB, "kedacore/keda", "2.21.0", ROOT / "local/images/keda-operator", programs=("keda",)
    ),
    Recipe(
        "keda-metrics-apiserver",
        _GITHUB,
        "kedacore/keda-metrics-apiserver",
        "2.21.0",
        ROOT / "local/images/keda-metrics-apiserver",
        programs=("keda-adapter",),
    ),
    Recipe("lws", _KUBERNETES, "lws/lws", "v0.8.0", ROOT / "local/images/lws", on_base=False, programs=("lws",)),
    LOG_SHIPPER,
    Recipe(
        "llm-gateway",
        ECR_HOST,
        "llm-gateway",
        LOCAL_TAG,
        ROOT / "images/llm-gateway",
        contexts=(ROOT / "images/embedder", _SERVICE),
    ),
    Recipe(
        "embedder",
        ECR_HOST,
        "embedder",
        LOCAL_TAG,
        ROOT / "images/embedder",
        contexts=(_SERVICE,),
        file="Dockerfile.cpu",
    ),
    Recipe("model-loader", ECR_HOST, "model-loader", LOCAL_TAG, ROOT / "images/model-loader"),
    Recipe("dcgm-exporter", ECR_HOST, "dcgm-exporter", LOCAL_TAG, ROOT / "local/images/dcgm-exporter"),
    Recipe("tgi", ECR_HOST, "tgi", TGI_TAG, _RUNTIME, target="tgi"),
    Recipe("vllm", ECR_HOST, "vllm", VLLM_TAG, _RUNTIME, target="vllm"),
    Recipe(
        "tensorrt-llm",
        ECR_HOST,
        "tensorrt-llm",
        TENSORRT_LLM_TAG,
        _RUNTIME,
        target="tensorrt-llm",
    ),
)


def recipes_for(repositories: Collection[str]) -> tuple[Recipe, ...]:
    """The cluster's own images, and those of the ECR repositories that a stack names."""
    return tuple(recipe for recipe in RECIPES if recipe.host != ECR_HOST or recipe.repository in repositories)


@dataclass(frozen=True)
class Image:
    """An image in the local registry."""

    name: str
    host: str
    repository: str
    tag: str
    digest: str
    manifest: str
    """The manifest's own text: its SHA-256 is the digest."""
    media_type: str
    size_bytes: int
    """Compressed size of its layers and configuration."""

    @property
    def reference(self) -> str:
        """The name that a pod spec has, by digest."""
        return f"{self.host}/{self.repository}@{self.digest}"


def build_all(
    progress: Callable[[str], None], *, recipes: Iterable[Recipe] = RECIPES, registry_host: str = HOST_IP
) -> dict[str, Image]:
    """Builds and pushes every image whose content changed; returns all by name. The registry must run.

    `progress` gets one line for each image that is built. Raises LocalError with the failing step of a Dockerfile, or
    where the disk is full.
    """
    repositories = registry.Repositories(registry_host)
    images: dict[str, Image] = {}
    try:
        with _one_at_a_time():
            for recipe in recipes:
                key = content_key(recipe)
                image = _unchanged(recipe, key, repositories)
                images[recipe.name] = image or _build(recipe, key, repositories, registry_host, progress)
    finally:
        repositories.close()
    return images


def content_key(recipe: Recipe) -> str:
    """A hash of everything that goes into an image: its build contexts, its programs, its base, which stage it is."""
    digest = hashlib.sha256(_FORMAT.encode())
    if not (recipe.context / recipe.file).exists():
        raise LocalError(
            f"{recipe.context} has no {recipe.file}", "get the file back: git checkout -- " + str(recipe.context)
        )
    _add_files(digest, recipe.context)
    for context in recipe.contexts:
        _add(digest, b"context", context.name.encode())
        _add_files(digest, context)
    for name in recipe.programs:
        _add(digest, name.encode(), _file_digest(program(name)))
    if recipe.on_base:
        _add(digest, *base_image.key_parts())
    if recipe.target:
        _add(digest, b"target", recipe.target.encode())
    if recipe.file != "Dockerfile":
        _add(digest, b"file", recipe.file.encode())
    return digest.hexdigest()


def _add(digest: Any, *parts: bytes) -> None:
    # The lengths keep two parts from reading as one.
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)


@cache
def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _add_files(digest: Any, context: Path) -> None:
    for path in sorted(context.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            executable = path.stat().st_mode & 0o111 != 0
            _add(digest, f"{path.relative_to(context)} {executable}".encode(), path.read_bytes())


def _record(recipe: Recipe, key: str) -> Path:
    return RECORDS / f"{recipe.name}-{key[:12]}.json"


def _unchanged(recipe: Recipe, key: str, repositories: registry.Repositories) -> Image | None:
    """The image of this content where the registry still has it; its tag is pointed at it again where it moved."""
    try:
        record = json.loads(_record(recipe, key).read_text())
    except (OSError, ValueError):
        return None
    image = Image(**record)
    if repositories.digest(recipe.path, image.digest) is None:
        return None
    if repositories.digest(recipe.path, recipe.tag) != image.digest:
        repositories.tag(recipe.path, recipe.tag, image.manifest.encode(), image.media_type)
    return image


def _build(
    recipe: Recipe,
    key: str,
    repositories: registry.Repositories,
    registry_host: str,
    progress: Callable[[str], None],
) -> Image:
    _check_disk()
    begun = time.monotonic()
    tag = f"localhost/{recipe.name}:{key[:12]}"
    with buildah.clean_storage():
        arguments = {"BASE": _base(progress)} if recipe.on_base else {}
        contexts = {context.name: context for context in recipe.contexts}
        if recipe.programs:
            contexts["programs"] = program(recipe.programs[0]).parent
        buildah.build(
            recipe.context,
            tag,
            name=recipe.name,
            arguments=arguments,
            contexts=contexts,
            ignore=_IGNORE,
            target=recipe.target,
            file=recipe.file,
        )
        digest = buildah.push(tag, f"{registry.address(registry_host)}/{recipe.path}:{recipe.tag}", name=recipe.name)
    manifest, media_type = repositories.manifest(recipe.path, digest)
    parsed = json.loads(manifest)
    size = parsed["config"]["size"] + sum(layer["size"] for layer in parsed["layers"])
    image = Image(recipe.name, recipe.host, recipe.repository, recipe.tag, digest, manifest.decode(), media_type, size)
    _write_record(_record(recipe, key), image)
    progress(f"  image {recipe.name}: {size / 1e6:.1f} MB, built in {time.monotonic() - begun:.0f} s")
    return image


def _write_record(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(vars(image), indent=1))
    partial.replace(path)


def _base(progress: Callable[[str], None]) -> str:
    """The base image's name in the build storage; made first where it isn't there."""
    digest = hashlib.sha256(_FORMAT.encode())
    _add(digest, *base_image.key_parts())
    tag = f"localhost/base:{digest.hexdigest()[:12]}"
    if not buildah.exists(tag):
        begun = time.monotonic()
        base_image.build(tag, _IGNORE)
        progress(f"  image base: Debian {base_image.SUITE}, made in {time.monotonic() - begun:.0f} s")
    return tag


def _check_disk() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free
    if free < MINIMUM_FREE_BYTES:
        raise LocalError(
            f"the disk of {CACHE} has {free / 1e9:.1f} GB left; building images needs"
            f" {MINIMUM_FREE_BYTES / 1e9:.0f} GB",
            "free some space and run the command again",
        )


@contextmanager
def _one_at_a_time() -> Generator[None]:
    """The cache is shared by every checkout on the machine: one builds, the others wait and then find it built."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    with (RECORDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish_all(ecr: Any, *, recipes: Iterable[Recipe] = RECIPES, registry_host: str = HOST_IP) -> dict[str, Image]:
    """Puts a record of each image with an ECR name into ECR, as its push would; returns those images by name.

    `ecr` is a boto3 client. Raises LocalError where an image was not built.
    """
    repositories = registry.Repositories(registry_host)
    published: dict[str, Image] = {}
    try:
        for recipe in recipes:
            if recipe.host != ECR_HOST:
                continue
            image = _unchanged(recipe, content_key(recipe), repositories)
            if image is None:
                raise LocalError(f"image {recipe.name} is not built", "run `make up` again")
            publish(ecr, image)
            published[recipe.name] = image
    finally:
        repositories.close()
    return published


def publish(ecr: Any, image: Image) -> None:
    """Makes ECR resolve an image's tag to its digest: the repository, then the very manifest that the registry has."""
    try:
        ecr.create_repository(
            repositoryName=image.repository,
            imageTagMutability="MUTABLE",  # see the top of this file
            imageScanningConfiguration={"scanOnPush": True},
        )
    except ecr.exceptions.RepositoryAlreadyExistsException:
        if _ecr_digest(ecr, image) == image.digest:
            return
    answer = ecr.put_image(
        repositoryName=image.repository,
        imageManifest=image.manifest,
        imageManifestMediaType=image.media_type,
        imageTag=image.tag,
    )
    found = answer["image"]["imageId"]["imageDigest"]
    if found != image.digest:
        raise LocalError(
            f"ECR gives image {image.name} the digest {found}, the registry {image.digest}",
            f"delete {RECORDS} and run `make up` again",
        )


def _ecr_digest(ecr: Any, image: Image) -> str | None:
    try:
        found = ecr.describe_images(repositoryName=image.repository, imageIds=[{"imageTag": image.tag}])
    except ecr.exceptions.ImageNotFoundException:
        return None
    return found["imageDetails"][0]["imageDigest"]


def prune() -> None:
    """Deletes old builds' records and layers from the cache; what the last builds of each image use stays."""
    with _one_at_a_time(), buildah.clean_storage():
        kept: list[str] = []
        for recipe in RECIPES:
            records = sorted(RECORDS.glob(f"{recipe.name}-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            kept += [f"localhost/{recipe.name}:{path.stem.rpartition('-')[2]}" for path in records[:RECORDS_KEPT]]
            for path in records[RECORDS_KEPT:]:
                path.unlink()
        buildah.remove_images_except([*kept, _base(lambda _: None)])
