"""What components are given, worked out from a stack's settings."""

from infra.settings.cluster import GpuPoolSettings, SystemPoolSettings
from infra.settings.gateway import UsagePlanSettings
from infra.settings.models import ModelSettings
from llm_serving import ModelRouteArgs, MonitoredModelArgs, NodePoolArgs, UsagePlanArgs
from llm_serving.inference_service import service_url
from llm_serving.versions import service_name

KUBERNETES_NAMESPACE = "llm-serving"
"""Where models and the gateway run."""


def pool(pool: SystemPoolSettings | GpuPoolSettings) -> NodePoolArgs:
    """Return what a node group is made with."""
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


def route(name: str, model: ModelSettings) -> ModelRouteArgs:
    """Return where the gateway sends requests for a model."""
    route: ModelRouteArgs = {"timeout_seconds": model.timeout_seconds}
    if not model.versions:
        route["url"] = service_url(name, KUBERNETES_NAMESPACE)
        route["revision"] = model.revision
        if model.least_replicas == 0:
            route["hold"] = True
        return route
    route["versions"] = {
        version: {
            "url": service_url(service_name(name, version), KUBERNETES_NAMESPACE),
            "revision": model.cache_partition(version),
            "weight": own.weight,
            "shadow": own.shadow,
        }
        for version, own in model.versions.items()
    }
    return route


def watched(name: str, service: str, version: ModelSettings) -> MonitoredModelArgs:
    """Return what monitoring has to know of the service of a version."""
    watched: MonitoredModelArgs = {"pool": version.pool, "runtime": version.runtime, "gpus": version.gpus}
    if service != name:
        watched["version_of"] = name
    return watched


def usage_plan(plan: UsagePlanSettings) -> UsagePlanArgs:
    """Return what a usage plan is made with."""
    args: UsagePlanArgs = {
        "keys": plan.keys,
        "requests_per_second": plan.requests_per_second,
        "burst": plan.burst,
    }
    if plan.requests_per_day is not None:
        args["requests_per_day"] = plan.requests_per_day
    return args
