"""What is in the registry: models, their revisions, and the aliases that stand for them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from llm_serving.registry import aliases, manifest, s3
from llm_serving.registry.aliases import Alias
from llm_serving.registry.errors import explained
from llm_serving.registry.manifest import Manifest
from llm_serving.registry.names import ALIAS_NAMES, ALIASES, is_name
from llm_serving.registry.s3 import Bucket


@dataclass(frozen=True, slots=True)
class Model:
    """A model in the registry."""

    name: str
    revisions: Sequence[Manifest]
    """The newest first. One without a manifest, whose push hasn't ended, is none."""
    aliases: Sequence[Alias]


def models(bucket: Bucket, name: str | None = None) -> list[Model]:
    """The models of the registry by name, or one of them; those without a whole revision left out.

    Raises BucketError where S3 refuses.
    """
    with explained(bucket.name), ThreadPoolExecutor(s3.CONNECTIONS // 2) as pool:
        names = [name] if name else _folders(bucket, "models/")
        pairs = [(each, revision) for each in names for revision in _folders(bucket, f"models/{each}/")]
        pairs = [(each, revision) for each, revision in pairs if revision not in (ALIASES, *ALIAS_NAMES)]
        found = list(pool.map(manifest.find, repeat(bucket), *zip(*pairs, strict=True))) if pairs else []
        result: list[Model] = []
        for each in names:
            revisions = [known for (model, _), known in zip(pairs, found, strict=True) if known and model == each]
            if revisions:
                revisions.sort(key=lambda known: (known.created or "", known.revision), reverse=True)
                stand = [aliases.find(bucket, each, alias) for alias in ALIAS_NAMES]
                result.append(Model(each, revisions, [alias for alias in stand if alias]))
        return result


def _folders(bucket: Bucket, prefix: str) -> list[str]:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=prefix, Delimiter="/")
    found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
    names = [folder.removeprefix(prefix).rstrip("/") for folder in found]
    return [name for name in names if is_name(name)]  # others are no models: somebody else's objects
