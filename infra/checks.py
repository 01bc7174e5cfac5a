"""What `llm_serving.capacity` says about a stack, before any of its resources is registered."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from infra.problems import SettingsError
from infra.settings import NAMESPACE, Settings
from infra.settings.cluster import ClusterSettings, GpuPoolSettings, SystemPoolSettings
from infra.settings.embeddings import EmbeddingSettings
from infra.settings.models import ModelSettings
from llm_serving import taints
from llm_serving.capacity import checks, cloud, model_config
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.stack import Cache, Embedding, Pool, Service, Stack
from llm_serving.runtimes import RUNTIMES
from llm_serving.versions import service_name

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder, which paths of models are relative to."""
ENGINE = "valkey"
"""What `llm_serving.SemanticCache` makes."""


def stack_of(settings: Settings, name: str, base: Path = ROOT) -> Stack:
    """Return a stack as the checks see it.

    :param base: Folder that paths in the settings are relative to.
    """
    cluster = settings.cluster
    return Stack(
        name=name,
        region=settings.aws.region,
        zones=tuple(settings.network.availability_zones),
        kubernetes_version=cluster.version,
        system_pool=_pool(taints.SYSTEM_POOL, cluster.system_pool, cluster, gpu=False),
        gpu_pools={pool: _pool(pool, values, cluster, gpu=True) for pool, values in cluster.gpu_pools.items()},
        services={
            service.name: service for name, model in settings.models.items() for service in _services(name, model, base)
        },
        embeddings={service: _embedding(service, each) for service, each in settings.embeddings.items()},
        cache=Cache(
            engine=ENGINE,
            engine_version=settings.cache.engine_version,
            node_type=settings.cache.node_type,
            replicas=settings.cache.replicas,
        ),
        response_transfer_mode=settings.api_gateway.response_transfer_mode,
        api_timeout_seconds=settings.api_gateway.timeout_seconds,
        gateway_replicas=settings.gateway.replicas,
        installs_device_plugin=settings.images.device_plugin is not None,
        allow=settings.allow,
    )


def _pool(name: str, pool: SystemPoolSettings | GpuPoolSettings, cluster: ClusterSettings, *, gpu: bool) -> Pool:
    return Pool(
        name=name,
        instance_types=tuple(pool.instance_types),
        min_size=pool.min_size,
        desired_size=pool.desired_size,
        max_size=pool.max_size,
        ami_type=pool.ami_type,
        disk_gb=pool.disk_gb,
        gpu=gpu,
        release_version=pool.release_version,
        capacity_type=pool.capacity_type,
        autoscaled=cluster.node_autoscaler != "none" and pool.min_size < pool.max_size,
    )


def _services(name: str, model: ModelSettings, base: Path) -> Iterator[Service]:
    """Yield the service of each of a model's versions."""
    if not model.versions:
        yield _service(name, model, base)
    for version, own in model.versions.items():
        yield replace(
            _service(name, model.version(version), base),
            name=service_name(name, version),
            version_of=name,
            version=version,
            inherits_allow="allow" not in own.model_fields_set,
        )


def _service(name: str, model: ModelSettings, base: Path) -> Service:
    reference = model.model or name
    shape, problem = _shape(reference, base)
    spec = model.spec(name)
    launch = RUNTIMES[model.runtime].launch(spec)
    return Service(
        name=name,
        model=shape,
        model_reference=reference,
        runtime=model.runtime,
        pool=model.pool,
        replicas=model.least_replicas,
        max_replicas=model.most_replicas if model.autoscaling else None,
        gpus=model.gpus,
        nodes=model.nodes,
        weight_gb=model.weight_gb,
        max_input_tokens=model.max_input_tokens,
        max_total_tokens=model.max_total_tokens,
        max_concurrent_requests=model.max_concurrent_requests,
        timeout_seconds=model.timeout_seconds,
        cpu_millicores=model.cpu_millicores,
        memory_mib=model.memory_mib,
        dtype=model.dtype,
        quantization=model.quantization,
        kv_cache_dtype=model.kv_cache_dtype,
        gpu_memory_utilization=model.gpu_memory_utilization,
        max_batch_prefill_tokens=model.max_batch_prefill_tokens,
        streams_weights=launch.streams_weights,
        cache_mib=launch.cache_mib,
        startup_seconds=launch.startup_seconds,
        expected_concurrency=model.expected_concurrency,
        mean_total_tokens=model.mean_total_tokens,
        model_named=model.model is not None,
        model_problem=problem,
        adapter_ranks=tuple(adapter.rank for adapter in spec.adapters),
        adapters_gb=spec.adapters_gb,
        allow=model.allow,
    )


def _embedding(name: str, settings: EmbeddingSettings) -> Embedding:
    return Embedding(
        name=name,
        pool=settings.pool or taints.SYSTEM_POOL,
        gpus=int(settings.device == "gpu"),
        replicas=settings.replicas,
        timeout_seconds=settings.timeout_seconds,
        cpu_millicores=settings.cpu_millicores,
        memory_mib=settings.memory,
        allow=settings.allow,
    )


def _shape(reference: str, base: Path) -> tuple[ModelShape | None, str | None]:
    try:
        return model_config.resolve(reference, base), None
    except ValueError as error:
        return None, str(error)


def run(settings: Settings, name: str) -> None:
    """Check a stack and log what is found; raises SettingsError with all errors, one line each."""
    stack = stack_of(settings, name)
    facts = cloud.gather(stack, account_id=settings.aws.account_id)
    report(checks.check(stack, today=datetime.now(UTC).date(), cloud=facts))


def report(findings: list[Finding]) -> None:
    """Log warnings and what was not checked, each once; raises SettingsError with all errors, one line each."""
    import pulumi  # noqa: PLC0415  it takes a second, which `llm-serving plan` has no use for

    for finding in findings:
        if finding.severity == "warning":
            pulumi.log.warn(_line(finding))
        elif finding.severity == "unchecked":
            pulumi.log.info(f"unchecked: {_line(finding)}")
    if errors := [_line(finding) for finding in findings if finding.severity == "error"]:
        raise SettingsError(errors)


def _line(finding: Finding) -> str:
    return f"{NAMESPACE}:{finding}"
