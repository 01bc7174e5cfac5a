"""What decides whether an image is built, what a failed build says, and what ECR gets to know."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import seeds
from local.addresses import ECR_HOST
from local.cluster import base_image, buildah, images
from local.cluster.images import Image, Recipe, content_key
from local.errors import LocalError
from local.paths import ROOT
from tests.cloud_harness import Cloud

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY app.py /\n")
    (context / "app.py").write_text("print()")
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF")

    def program(_: str) -> Path:
        return tool

    monkeypatch.setattr(images, "program", program)
    monkeypatch.setattr(base_image, "key_parts", lambda: [b"base"])
    monkeypatch.setattr(images, "RECORDS", tmp_path / "records")
    images._file_digest.cache_clear()  # pyright: ignore[reportPrivateUsage]
    return Recipe("app", ECR_HOST, "app", "local", context, programs=("tool",))


def test_the_key_stays_while_nothing_changes(recipe: Recipe) -> None:
    before = content_key(recipe)
    (recipe.context / "__pycache__").mkdir()
    (recipe.context / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"compiled")

    assert content_key(recipe) == before


def test_the_key_changes_with_content_name_mode_and_base(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [content_key(recipe)]
    (recipe.context / "app.py").write_text("print(1)")
    keys.append(content_key(recipe))
    (recipe.context / "app.py").rename(recipe.context / "main.py")
    keys.append(content_key(recipe))
    (recipe.context / "main.py").chmod(0o755)
    keys.append(content_key(recipe))
    monkeypatch.setattr(base_image, "key_parts", lambda: [b"another base"])
    keys.append(content_key(recipe))
    keys.append(content_key(replace(recipe, on_base=False)))
    keys.append(content_key(replace(recipe, on_base=False, programs=())))
    keys.append(content_key(replace(recipe, on_base=False, programs=(), target="app")))
    (recipe.context / "Dockerfile.cpu").write_text("FROM scratch\n")
    keys.append(content_key(recipe))
    keys.append(content_key(replace(recipe, file="Dockerfile.cpu")))

    assert len(set(keys)) == len(keys)


def test_the_key_changes_with_a_program(recipe: Recipe, tmp_path: Path) -> None:
    before = content_key(recipe)
    (tmp_path / "tool").write_bytes(b"another build")
    images._file_digest.cache_clear()  # pyright: ignore[reportPrivateUsage]

    assert content_key(recipe) != before


def test_the_key_changes_with_another_context(recipe: Recipe, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.py").write_text("print()")
    keys = [content_key(recipe), content_key(replace(recipe, contexts=(other,)))]
    (other / "model.py").write_text("print(1)")
    keys.append(content_key(replace(recipe, contexts=(other,))))
    keys.append(content_key(replace(recipe, contexts=(other.rename(tmp_path / "another"),))))

    assert len(set(keys)) == len(keys)


def test_every_build_context_of_a_dockerfile_is_given() -> None:
    for recipe in images.RECIPES:
        dockerfile = (recipe.context / recipe.file).read_text()
        stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
        asked = set(re.findall(r"--from=(\S+)", dockerfile)) - set(stages)
        given = {*(context.name for context in recipe.contexts), *(["programs"] if recipe.programs else [])}
        assert asked == given, recipe.name


def test_the_gateways_image_has_each_module_of_the_embedder_that_it_imports() -> None:
    embedder = ROOT / "images" / "embedder" / "embedder"
    dockerfile = (ROOT / "images" / "llm-gateway" / "Dockerfile").read_text().replace("\\\n", "")
    last = dockerfile.rpartition("FROM ")[2]
    (copied,) = re.findall(r"^COPY --from=embedder (.*) embedder/$", last, re.MULTILINE)
    there = {name.removeprefix("embedder/").removesuffix(".py") for name in copied.split()}
    sources = [
        *(ROOT / "images" / "llm-gateway" / "llm_gateway").glob("*.py"),
        *(embedder / f"{name}.py" for name in there),
    ]
    asked = {
        name for source in sources for name in re.findall(r"^from embedder\.(\w+) ", source.read_text(), re.MULTILINE)
    }

    assert there == asked | {"__init__"}


def test_a_dockerfile_of_another_name_must_be_there(recipe: Recipe) -> None:
    with pytest.raises(LocalError, match=r"has no Dockerfile\.cpu"):
        content_key(replace(recipe, file="Dockerfile.cpu"))


def test_the_local_embedder_is_the_one_for_cpus() -> None:
    (recipe,) = (each for each in images.RECIPES if each.name == "embedder")
    assert "EMBEDDER_DEVICE=cpu" in (recipe.context / recipe.file).read_text()


def test_a_stack_gets_the_images_that_it_names() -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())
    named = seeds.tagged_images(config)
    names = [recipe.name for recipe in images.recipes_for(named)]

    assert {"pause", "coredns", "prometheus"} <= set(names)  # the cluster's own
    assert {recipe.repository for recipe in images.recipes_for(named) if recipe.host == ECR_HOST} == set(named)
    assert "vllm" in [recipe.name for recipe in images.recipes_for([*named, "vllm"])]


def test_every_runtimes_image_is_a_stage_of_its_dockerfile() -> None:
    stages = {recipe.target for recipe in images.RECIPES if recipe.target}
    dockerfile = (ROOT / "local" / "images" / "runtime" / "Dockerfile").read_text()

    assert stages == {"tgi", "vllm", "tensorrt-llm"}
    assert stages <= set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))


def test_a_context_without_a_dockerfile(recipe: Recipe) -> None:
    (recipe.context / "Dockerfile").unlink()

    with pytest.raises(LocalError, match="has no Dockerfile: get the file back: git checkout"):
        content_key(recipe)


class Repositories:
    """A registry in memory."""

    def __init__(self, *, manifests: dict[str, str], tags: dict[str, str]) -> None:
        self.manifests = manifests
        self.tags = tags

    def digest(self, _: str, reference: str) -> str | None:
        return self.tags.get(reference) or (reference if reference in self.manifests else None)

    def tag(self, _: str, tag: str, manifest: bytes, __: str) -> None:
        self.tags[tag] = f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def close(self) -> None:
        pass


def image(tag: str = "local", layer: str = "a") -> Image:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE, "config": {}, "layers": [{"digest": layer}]})
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    return Image("app", ECR_HOST, "app", tag, digest, manifest, MEDIA_TYPE, 5)


def record(recipe: Recipe, built: Image) -> None:
    path = images.RECORDS / f"app-{content_key(recipe)[:12]}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(vars(built)))


def build(recipe: Recipe, registry: Repositories, monkeypatch: pytest.MonkeyPatch) -> dict[str, Image]:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("buildah was started")

    def connected(_: str) -> Repositories:
        return registry

    def base(_: Any) -> str:
        return "localhost/base"

    monkeypatch.setattr(images.registry, "Repositories", connected)
    monkeypatch.setattr(images, "_base", base)
    monkeypatch.setattr(images.buildah, "clean_storage", nullcontext)
    monkeypatch.setattr(images.buildah, "buildah", started)
    return images.build_all(lambda _: None, recipes=[recipe])


def test_what_is_built_and_pushed_is_not_built_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    built = image()
    record(recipe, built)

    found = build(recipe, Repositories(manifests={built.digest: ""}, tags={"local": built.digest}), monkeypatch)

    assert found == {"app": built}
    assert found["app"].reference == f"{ECR_HOST}/app@{built.digest}"


def test_a_tag_that_another_checkout_moved_is_moved_back(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    built = image()
    record(recipe, built)
    registry = Repositories(manifests={built.digest: ""}, tags={"local": "sha256:other"})

    build(recipe, registry, monkeypatch)

    assert registry.tags == {"local": built.digest}


def test_an_image_that_the_registry_lost_is_built_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    record(recipe, image())

    with pytest.raises(AssertionError, match="buildah was started"):
        build(recipe, Repositories(manifests={}, tags={}), monkeypatch)


@pytest.fixture
def ecr(cloud: Cloud) -> Iterator[Any]:
    client = cloud.client("ecr")
    yield client
    client.delete_repository(repositoryName="app", force=True)


def resolved(ecr: Any, tag: str = "local") -> str:
    return ecr.describe_images(repositoryName="app", imageIds=[{"imageTag": tag}])["imageDetails"][0]["imageDigest"]


def test_publishing_makes_ecr_resolve_the_tag_to_the_registrys_digest(ecr: Any) -> None:
    built = image()

    images.publish(ecr, built)
    images.publish(ecr, built)

    assert resolved(ecr) == built.digest
    repository = ecr.describe_repositories()["repositories"][0]
    assert repository["imageTagMutability"] == "MUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_publishing_another_build_moves_the_tag(ecr: Any) -> None:
    images.publish(ecr, image())
    images.publish(ecr, image(layer="b"))

    assert resolved(ecr) == image(layer="b").digest


def test_publishing_checks_the_digest(ecr: Any) -> None:
    with pytest.raises(LocalError, match="ECR gives image app the digest"):
        images.publish(ecr, replace(image(), digest="sha256:0"))


def test_a_full_disk_is_told_before_a_build(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MINIMUM_FREE_BYTES", 10**18)

    with pytest.raises(LocalError, match=r"GB left; building images needs .*: free some space"):
        build(recipe, Repositories(manifests={}, tags={}), monkeypatch)


def test_a_failed_command_says_its_last_lines() -> None:
    script = "seq 30; echo 'STEP 2/2: RUN make' ; seq 20; exit 3"

    with pytest.raises(LocalError) as caught:
        buildah.run(["sh", "-c", script], action="building image app")

    assert caught.value.problem.splitlines() == [
        "building image app failed:",
        "STEP 2/2: RUN make",
        *map(str, range(9, 21)),
    ]


def test_a_command_that_fills_the_disk() -> None:
    with pytest.raises(LocalError, match=r"building image app: the disk of .* is full: free some space"):
        buildah.run(["sh", "-c", "echo 'write x: no space left on device'; exit 1"], action="building image app")


def test_the_machines_package_index_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://files/simple\ntimeout = 5\ncache-dir = /here\nfind-links = /wheels\n"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:password@index/simple")

    settings = buildah.pip_settings()

    assert settings["index-url"] == "https://user:password@index/simple"
    assert settings["timeout"] == "5"
    assert not {"cache-dir", "find-links"} & settings.keys()
