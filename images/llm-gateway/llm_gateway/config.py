"""What the gateway is told: its models, its cache, its limits. Read from one YAML or JSON file."""

import ssl
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

KIB = 1024
MIB = 1024 * KIB

DEFAULT_THRESHOLD = 0.95
"""Of `bench/semantic_cache.md`: with the guard, fewer than 1 % of the near misses of the labelled set are hits."""

EMBEDDING_MODEL = "all-MiniLM-L6-v2"
"""The model in the image."""
ONLY_VERSION = "stable"
"""Name of the version that a model without versions has."""
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class ConfigError(Exception):
    """A configuration that cannot be used; the message names each field that is wrong."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be http://HOST[:PORT] or https://HOST[:PORT]")
    return value.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]


def _plain_url(value: str) -> str:
    # The pods behind it are asked by their addresses, for which no certificate is.
    if urlsplit(value).scheme != "http":
        raise ValueError("must be http://HOST[:PORT]")
    return value


PodsUrl = Annotated[BaseUrl, AfterValidator(_plain_url)]


class Version(_Section):
    """One version of a model, with an inference service of its own."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    url: BaseUrl
    """Base URL of its inference service."""
    pods_url: PodsUrl | None = None
    """Base URL of a headless Service of the same pods: where it is given, requests that begin alike go to one pod."""
    revision: str = ""
    """The weights' revision: answers cached for another revision are not used."""
    weight: int = Field(ge=0, le=100)
    """Percent of the model's requests that it answers; of a shadow, percent that it gets a copy of."""
    shadow: bool = False
    """Whether it only gets copies of requests, and nobody its answers."""


class SemanticRoute(_Section):
    """How a model's questions are compared by meaning."""

    mode: Literal["answer", "shadow"]
    """`shadow` only counts what `answer` would have answered from the cache."""
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0, le=1)
    """Least cosine of two questions that may have the same answer."""


class ModelRoute(_Section):
    """Where a model is served: at one address, or by versions that share its requests."""

    kind: Literal["generation", "embedding"] = "generation"
    """What it answers with: text, or the vectors of `/v1/embeddings`."""
    url: BaseUrl | None = None
    """Base URL of its inference service, where it has no versions."""
    pods_url: PodsUrl | None = None
    """Base URL of a headless Service of the pods at `url`: where it is given, requests that begin alike go to one."""
    timeout_seconds: float = Field(default=120, gt=0, le=3600)
    """Longest time from a request's arrival to the end of its answer, streamed or not."""
    revision: str = ""
    """The weights' revision at `url`: answers cached for another revision are not used."""
    hold: bool = False
    """Whether requests wait, as long as they may, while no pod takes them: the model may be scaled to zero."""
    semantic_cache: SemanticRoute | None = None
    """Where questions that only mean the same are answered from the cache, too."""
    versions: tuple[Version, ...] = ()
    """Versions, whose weights sum to 100 without those of shadows."""
    adapters: dict[ModelName, str] = {}
    """Revisions of the LoRA adapters that every version serves, by the name that requests give."""

    @cached_property
    def all_versions(self) -> tuple[Version, ...]:
        """The versions; a model without any is its own stable one."""
        if self.url is None:
            return self.versions
        return (Version(name=ONLY_VERSION, url=self.url, pods_url=self.pods_url, revision=self.revision, weight=100),)

    @cached_property
    def live(self) -> tuple[Version, ...]:
        """The versions whose answers callers get."""
        return tuple(version for version in self.all_versions if not version.shadow)

    @cached_property
    def shadows(self) -> tuple[Version, ...]:
        """The versions that get copies."""
        return tuple(version for version in self.all_versions if version.shadow)

    def of_adapter(self, revision: str) -> Self:
        """The route of an adapter of this revision: the model's, and answers of another pair of both are not used."""
        versions = tuple(
            version.model_copy(update={"revision": f"{version.revision}+{revision}"}) for version in self.all_versions
        )
        return type(self)(
            timeout_seconds=self.timeout_seconds, hold=self.hold, semantic_cache=self.semantic_cache, versions=versions
        )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (not self.versions):
            raise ValueError("has exactly one of url and versions")
        if self.url is None and self.pods_url is not None:
            raise ValueError("has pods_url, which each of its versions has instead")
        names = [version.name for version in self.versions]
        if len(set(names)) < len(names):
            raise ValueError("has two versions of one name")
        total = sum(version.weight for version in self.live)
        if total != 100:
            raise ValueError(f"has versions whose weights sum to {total}, not to 100")
        return self


class SemanticConfig(_Section):
    """The semantic tier of the response cache."""

    embedder_url: BaseUrl | None = None
    """Base URL of an embedder, which has `/v1/embeddings`. Without one the gateway embeds in its own process."""
    embedder_model: ModelName = EMBEDDING_MODEL
    """The model that is asked for there."""
    vector_model: ModelName | None = None
    """The model that the vectors are of, where `embedder_model` is but a service's name. Entries of another one are not
    used."""
    model_dir: Path = Path("/model")
    """The model that the gateway embeds with itself; it is in the image."""
    embedder_threads: int = Field(default=1, ge=1)
    """Threads that compute one text in the gateway's own process."""
    timeout_seconds: float = Field(default=0.25, gt=0, le=10)
    """Longest wait for a whole lookup: embedding, search, answer."""
    retry_seconds: float = Field(default=5.0, gt=0)
    """After three failures in a row, time until a lookup is tried again."""
    max_question_chars: int = Field(default=800, ge=1, le=8192)
    """Longer questions are not compared. The default is about the 256 tokens that all-MiniLM-L6-v2 reads."""
    max_entries: int = Field(default=20_000, ge=1, le=1_000_000)
    """Questions that are kept; the oldest go first. Each takes 1.5 kB for 384 numbers, and its text."""
    max_partition_entries: int = Field(default=2_000, ge=1, le=1_000_000)
    """Questions that are kept of one tenant, model, system prompt and history; the oldest go first."""

    @property
    def vectors_of(self) -> str:
        """The model that the vectors are of."""
        return self.vector_model or self.embedder_model

    @model_validator(mode="after")
    def _own_model(self) -> Self:
        if self.embedder_url is None and self.vectors_of != EMBEDDING_MODEL:
            raise ValueError(f"has no embedder_url for {self.vectors_of}: the gateway itself has {EMBEDDING_MODEL}")
        return self


class CacheConfig(_Section):
    """The response cache in Redis or Valkey."""

    enabled: bool = False
    url_file: Path | None = None
    """File that holds the connection URL (`rediss://...`), so that the password is in no configuration."""
    ttl_seconds: int = Field(default=3600, ge=1)
    max_temperature: float = Field(default=0.0, ge=0, le=2)
    """Requests with a higher temperature are not cached. The default caches deterministic answers only."""
    max_entry_bytes: int = Field(default=256 * KIB, ge=1)
    """Longer answers are not stored."""
    timeout_seconds: float = Field(default=0.1, gt=0)
    """Longest wait for a lookup; then the model answers."""
    connect_timeout_seconds: float = Field(default=1.0, gt=0)
    """For the connections made in the background; no request waits for them."""
    retry_seconds: float = Field(default=1.0, gt=0)
    """Time between two attempts to reach a cache that failed."""
    max_connections: int = Field(default=4, ge=1)
    semantic: SemanticConfig | None = None
    """The tier that compares questions by meaning; models ask for it by `semantic_cache`."""

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if self.enabled and self.url_file is None:
            raise ValueError("url_file is required when the cache is enabled")
        return self


class LimitsConfig(_Section):
    """What each API key may use in any 60 seconds; 0 is no limit. Counted in the cache's Redis."""

    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    """Prompt and completion tokens together, as models report them."""


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what goes to `url`: by TLS, or because it is this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or parts.hostname in ("127.0.0.1", "::1", "localhost"))


def _private(value: str) -> str:
    if not is_private(value) or urlsplit(value).query or urlsplit(value).fragment:
        raise ValueError("must be https://HOST[:PORT][/PATH]")
    return value


def _certificates(value: str) -> str:
    try:
        ssl.create_default_context(cadata=value)
    except (ssl.SSLError, ValueError):
        raise ValueError("must be certificates in PEM") from None
    return value


class JwtConfig(_Section):
    """Whose tokens count, where API Gateway asks for tokens."""

    issuer: Annotated[str, AfterValidator(_private)]
    """As the claim `iss` has it, to the letter. Its document is at `/.well-known/openid-configuration` below it."""
    audience: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(min_length=1)
    """One of them is in the claim `aud`; in `client_id` where a token has no `aud`."""
    tenant_claim: Annotated[str, StringConstraints(min_length=1)] = "sub"
    """Claim by which callers are told apart: in the cache, in limits, in the log."""
    required_scopes: tuple[str, ...] = ()
    """Scopes that a token must have, all of them."""
    required_inside: bool = False
    """Whether requests need a token that didn't come through API Gateway, and so have no mark, too."""
    certificate_authority: Annotated[str, AfterValidator(_certificates)] | None = None
    """Certificates in PEM of the authorities that the issuer's own comes from; where there are none, the system's."""
    leeway_seconds: float = Field(default=30, ge=0, le=300)
    """How far the issuer's clock may be from this one."""


class UpstreamConfig(_Section):
    """How the inference services are called."""

    attempts: int = Field(default=3, ge=1, le=10)
    """Tries for a request that no service has begun to answer, the first one included."""
    backoff_seconds: float = Field(default=0.05, ge=0)
    """Wait before the second try; it doubles with each further one."""
    connect_timeout_seconds: float = Field(default=2.0, gt=0)
    max_response_bytes: int = Field(default=32 * MIB, ge=1)
    """Bound of an answer that is not streamed."""
    retry_percent: float = Field(default=20, ge=0, le=1000)
    """Second and further tries that a service may cost, in percent of its requests."""
    retries_per_second: float = Field(default=10, ge=0)
    """Such tries besides, so that a service with few requests has some."""
    eject_after_failures: int = Field(default=3, ge=1)
    """Failures in a row, before any answer, after which a pod gets no request for a while; other pods get them."""
    eject_seconds: float = Field(default=1.0, gt=0)
    """The first such while; it doubles each time that the pod fails again."""
    eject_most_seconds: float = Field(default=30.0, gt=0)
    shadow_concurrency: int = Field(default=16, ge=1, le=1000)
    """Copies for shadow versions in flight at once; what comes beyond is not copied."""


class TracesConfig(_Section):
    """Traces of requests, sent to an OpenTelemetry collector."""

    endpoint: BaseUrl
    """Base URL of the collector's OTLP/HTTP receiver; spans go to its `/v1/traces`."""
    sample_percent: float = Field(default=0.0, ge=0, le=100)
    """Percent of the requests that are traced among those whose callers have not decided by `traceparent`."""


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value not in ("*", f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("must be https://HOST[:PORT], as browsers send it, or *")
    return value


class ServerConfig(_Section):
    """Limits towards the callers."""

    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    """Origins of the web pages whose scripts may call; `*` is any. Without one, none may."""

    max_body_bytes: int = Field(default=10 * MIB, ge=1)
    """API Gateway's own limit."""
    body_timeout_seconds: float = Field(default=30, gt=0)
    """Longest time for a caller to send its request's body."""
    drain_quiet_seconds: float = Field(default=2, ge=0)
    """After SIGTERM, the process ends once no request has been in flight for this long."""
    drain_deadline_seconds: float = Field(default=130, ge=0)
    """After SIGTERM, the process ends at the latest after this time."""


class GatewayConfig(_Section):
    """The whole file."""

    models: dict[ModelName, ModelRoute] = Field(min_length=1)
    cache: CacheConfig = CacheConfig()
    limits: LimitsConfig = LimitsConfig()
    jwt: JwtConfig | None = None
    upstream: UpstreamConfig = UpstreamConfig()
    server: ServerConfig = ServerConfig()
    traces: TracesConfig | None = None
    """Where traces go. Default: no request is traced."""

    @cached_property
    def adapters(self) -> dict[str, str]:
        """All adapters, each with the model that it belongs to."""
        return {adapter: model for model, route in self.models.items() for adapter in route.adapters}

    @cached_property
    def routes(self) -> dict[str, ModelRoute]:
        """Where each name that a request may give is served: models and their adapters."""
        adapters = {
            adapter: route.of_adapter(revision)
            for route in self.models.values()
            for adapter, revision in route.adapters.items()
        }
        return {**self.models, **adapters}

    @model_validator(mode="after")
    def _semantic_cache_is_there(self) -> Self:
        asking = [name for name, route in self.models.items() if route.semantic_cache]
        if asking and not (self.cache.enabled and self.cache.semantic):
            raise ValueError(f"models.{asking[0]}.semantic_cache needs cache.enabled and cache.semantic")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        owners = {model: f"models.{model}" for model in self.models}
        for model, route in self.models.items():
            for adapter in route.adapters:
                own = f"models.{model}.adapters.{adapter}"
                if (other := owners.setdefault(adapter, own)) != own:
                    raise ValueError(f"{own} has the name of {other}")
        return self

    @model_validator(mode="after")
    def _limits_are_counted(self) -> Self:
        if self.limits != LimitsConfig() and not self.cache.enabled:
            raise ValueError("limits are counted in the cache's Redis: cache.enabled must be true")
        return self


def load(path: Path) -> GatewayConfig:
    """Reads and checks the configuration; raises ConfigError with one line that says what is wrong."""
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
        return GatewayConfig.model_validate(document)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(item["loc"], item["msg"]) for item in error.errors())) from error


def _problem(location: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(str(part) for part in location) or 'configuration'}: {message.removeprefix('Value error, ')}"
