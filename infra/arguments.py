"""Arguments of the components, from the sections of a stack's settings. Pure."""

import pulumi

from infra.settings import Settings
from infra.settings.cluster import AccessEntrySettings, GpuPoolSettings, SystemPoolSettings
from infra.settings.embeddings import EmbeddingSettings
from infra.settings.gateway import DomainSettings, FirewallSettings, TracesSettings, UsagePlanSettings
from infra.settings.identity import JwtSettings
from infra.settings.models import AdapterSettings, ModelSettings, ScalingSettings
from infra.settings.storage import SemanticTierSettings
from llm_serving import (
    AccessEntryArgs,
    AdapterArgs,
    DomainArgs,
    FirewallArgs,
    JwtArgs,
    ModelRouteArgs,
    ModelVersionArgs,
    MonitoredModelArgs,
    NodePoolArgs,
    ScalingArgs,
    SemanticTierArgs,
    TracesArgs,
    UsagePlanArgs,
    _semantic_tier,
)
from llm_serving.inference_service import pods_url, service_url
from llm_serving.versions import service_name


def node_pool(pool: SystemPoolSettings | GpuPoolSettings) -> NodePoolArgs:
    """Return the arguments of a node group."""
    args: NodePoolArgs = {
        "instance_types": pool.instance_types,
        "min_size": pool.min_size,
        "desired_size": pool.desired_size,
        "max_size": pool.max_size,
        "ami_type": pool.ami_type,
        "disk_gb": pool.disk_gb,
        "capacity_type": pool.capacity_type,
    }
    if pool.release_version:
        args["release_version"] = pool.release_version
    return args


def access_entry(entry: AccessEntrySettings) -> AccessEntryArgs:
    """Return the arguments of one way into the cluster."""
    return {"principal_arn": entry.principal_arn, "policy": entry.policy, "namespaces": entry.namespaces}


def scaling(settings: ScalingSettings, prometheus_url: pulumi.Input[str]) -> ScalingArgs:
    """Return the arguments of a model's autoscaling, by the metrics of the Prometheus at `prometheus_url`."""
    return {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "queue_target": settings.queue_target,
        "kv_cache_target_percent": settings.kv_cache_target_percent,
        "scale_up_stabilization_seconds": settings.scale_up_stabilization_seconds,
        "scale_down_stabilization_seconds": settings.scale_down_stabilization_seconds,
        "prometheus_url": prometheus_url,
    }


def adapter(adapter: AdapterSettings) -> AdapterArgs:
    """Return the arguments of a LoRA adapter."""
    args: AdapterArgs = {"revision": adapter.revision, "rank": adapter.rank, "weight_gb": adapter.weight_gb}
    if adapter.model is not None:
        args["model"] = adapter.model
    return args


def routes(settings: Settings, namespace: str) -> dict[str, ModelRouteArgs]:
    """Return where the gateway finds what answers to each name, all of it in `namespace`."""
    return {
        **{name: model_route(name, model, namespace) for name, model in settings.models.items()},
        **{name: embedding_route(name, service, namespace) for name, service in settings.embeddings.items()},
    }


def model_route(name: str, model: ModelSettings, namespace: str) -> ModelRouteArgs:
    """Return where the gateway finds a model, whose services are in `namespace`."""
    route: ModelRouteArgs = {"timeout_seconds": model.timeout_seconds}
    if model.adapters:
        route["adapters"] = {adapter: own.revision for adapter, own in model.adapters.items()}
    if model.semantic_cache:
        route["semantic_cache"] = {"mode": model.semantic_cache.mode, "threshold": model.semantic_cache.threshold}
    if not model.versions:
        route["url"] = service_url(name, namespace)
        if model.prefix_affinity:
            route["pods_url"] = pods_url(name, namespace)
        route["revision"] = model.revision
        if model.least_replicas == 0:
            route["hold"] = True
        return route
    route["versions"] = {
        version: _version_route(service_name(name, version), model, version, namespace) for version in model.versions
    }
    return route


def _version_route(service: str, model: ModelSettings, version: str, namespace: str) -> ModelVersionArgs:
    own = model.versions[version]
    route: ModelVersionArgs = {
        "url": service_url(service, namespace),
        "revision": model.cache_partition(version),
        "weight": own.weight,
        "shadow": own.shadow,
    }
    if model.prefix_affinity:
        route["pods_url"] = pods_url(service, namespace)
    return route


def embedding_route(name: str, settings: EmbeddingSettings, namespace: str) -> ModelRouteArgs:
    """Return where the gateway finds an embedding service in `namespace`."""
    return {
        "kind": "embedding",
        "url": service_url(name, namespace),
        "timeout_seconds": settings.timeout_seconds,
    }


def semantic_tier(tier: SemanticTierSettings, namespace: str) -> SemanticTierArgs:
    """Return what the gateway is told of the cache's semantic tier; a service of the stack's own is in `namespace`."""
    args: SemanticTierArgs = {
        "timeout_milliseconds": tier.timeout_milliseconds,
        "max_entries": tier.max_entries,
        "max_partition_entries": tier.max_partition_entries,
    }
    if tier.embeddings is not None:
        args["embedder_url"] = service_url(tier.embeddings, namespace)
        args["embedder_model"] = tier.embeddings
        # Every such service has this model, whatever its name: what one has embedded, another one finds.
        args["vector_model"] = _semantic_tier.MODEL
    elif tier.embedder_url is not None:
        args["embedder_url"] = tier.embedder_url
        args["embedder_model"] = tier.embedder_model
    return args


def traces(traces: TracesSettings) -> TracesArgs:
    """Return what the gateway is told of traces."""
    return {"endpoint": traces.endpoint, "sample_percent": traces.sample_percent}


def watched_model(name: str, service: str, version: ModelSettings) -> MonitoredModelArgs:
    """Return what monitoring is told of one version of a model, by the name of its service."""
    watched: MonitoredModelArgs = {"pool": version.pool, "runtime": version.runtime, "gpus": version.gpus}
    if service != name:
        watched["version_of"] = name
    return watched


def jwt(settings: JwtSettings) -> JwtArgs:
    """Return what the gateway is told of the issuer of tokens."""
    args: JwtArgs = {
        "issuer": settings.issuer,
        "audience": settings.audience,
        "tenant_claim": settings.tenant_claim,
        "required_scopes": settings.required_scopes,
        "required_inside": settings.required_inside,
    }
    if settings.certificate_authority is not None:
        args["certificate_authority"] = settings.certificate_authority
    return args


def usage_plan(plan: UsagePlanSettings) -> UsagePlanArgs:
    """Return the arguments of a usage plan."""
    args: UsagePlanArgs = {
        "keys": plan.keys,
        "requests_per_second": plan.requests_per_second,
        "burst": plan.burst,
    }
    if plan.requests_per_day is not None:
        args["requests_per_day"] = plan.requests_per_day
    return args


def firewall(settings: FirewallSettings) -> FirewallArgs:
    """Return the arguments of a firewall."""
    args: FirewallArgs = {"block": settings.mode == "block"}
    if settings.requests_per_five_minutes is not None:
        args["requests_per_five_minutes"] = settings.requests_per_five_minutes
    if settings.count_rules:
        args["count_rules"] = settings.count_rules
    if settings.caller_cidrs:
        args["caller_cidrs"] = settings.caller_cidrs
    return args


def domain(settings: DomainSettings) -> DomainArgs:
    """Return the arguments of a domain name."""
    args: DomainArgs = {"name": settings.name, "certificate_arn": settings.certificate_arn}
    if settings.hosted_zone_id is not None:
        args["hosted_zone_id"] = settings.hosted_zone_id
    return args
