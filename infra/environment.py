"""Wires the components of one stack into an environment."""

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import arguments, providers
from infra.images import Images
from infra.settings import Settings
from llm_serving import (
    ApiGateway,
    ApiGatewayArgs,
    Autoscaling,
    EmbeddingService,
    EmbeddingServiceArgs,
    ExistingNetworkArgs,
    GpuAgents,
    GpuAgentsArgs,
    GpuCluster,
    InferenceService,
    InferenceServiceArgs,
    LeaderWorkerSets,
    LlmGateway,
    LlmGatewayArgs,
    Logging,
    LoggingArgs,
    ModelBucket,
    ModelBucketArgs,
    Monitoring,
    MonitoringArgs,
    Network,
    NodeAutoscaling,
    SemanticCache,
    _node_groups,
    taints,
)
from llm_serving.versions import STABLE, service_name

KUBERNETES_NAMESPACE = "llm-serving"


class Environment:
    """All that one stack has. `outputs` is what it exports."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._cluster_name = settings.cluster.name or f"{pulumi.get_project()}-{pulumi.get_stack()}"
        self._aws = providers.aws_provider(settings)
        self._on_aws = pulumi.ResourceOptions(providers=[self._aws])
        self._images = Images(settings, self._aws)
        self._network = self._create_network()
        self._bucket = self._create_bucket()
        self._cluster = self._create_cluster()
        self._cache = self._create_cache()
        self._kubernetes = providers.kubernetes_provider(
            self._cluster.kubeconfig, self._cluster_name, parent=self._cluster
        )
        self._namespace = self._create_namespace()
        self._monitoring = self._create_monitoring()
        self._create_gpu_agents()
        self._create_node_autoscaling()
        self._autoscaling = self._create_autoscaling()
        self._leader_worker_sets = self._create_leader_worker_sets()
        self._weighted: list[InferenceService] = []
        for name, model in settings.models.items():
            for version in model.versions or (STABLE,):
                service = self._create_service(name, version)
                if version in model.versions and model.versions[version].weight:
                    self._weighted.append(service)
        for name in settings.embeddings:
            self._create_embedding_service(name)
        self._gateway = self._create_gateway()
        self._api = self._create_api()
        self._create_logging()
        self.outputs: dict[str, pulumi.Output[Any]] = {
            "apiGatewayUrl": self._api.url,
            "apiKeys": self._api.api_keys,
            "modelBucketName": self._bucket.bucket_name,
            "cacheEndpoint": pulumi.Output.concat(self._cache.endpoint, ":", self._cache.port.apply(str)),
            "clusterName": self._cluster.cluster_name,
            "kubeconfig": self._cluster.kubeconfig,
        }

    def _create_network(self) -> Network:
        network = self._settings.network
        if network.existing:
            existing: ExistingNetworkArgs = {
                "vpc_id": network.existing.vpc_id,
                "private_subnet_ids": network.existing.private_subnet_ids,
                "public_subnet_ids": network.existing.public_subnet_ids,
            }
            return Network("network", {"existing": existing}, self._on_aws)
        return Network(
            "network",
            {
                "availability_zones": network.availability_zones,
                "cidr": network.cidr,
                "cluster_name": self._cluster_name,
                "flow_logs": network.flow_logs,
                "flow_log_retention_days": self._settings.log_retention_days,
                "interface_endpoints": network.interface_endpoints,
                "nat_gateways": network.nat_gateways,
            },
            self._on_aws,
        )

    def _create_bucket(self) -> ModelBucket:
        bucket = self._settings.model_bucket
        args: ModelBucketArgs = {
            "require_tls": bucket.require_tls,
            "noncurrent_version_days": bucket.noncurrent_version_days,
            "protect": self._settings.protect,
            "force_destroy": not self._settings.protect,
        }
        if bucket.name:
            args["bucket_name"] = bucket.name
        return ModelBucket("models", args, self._on_aws)

    def _create_cluster(self) -> GpuCluster:
        cluster = self._settings.cluster
        return GpuCluster(
            "cluster",
            {
                "cluster_name": self._cluster_name,
                "version": cluster.version,
                "vpc_id": self._network.vpc_id,
                "subnet_ids": self._network.private_subnet_ids,
                "system_pool": arguments.node_pool(cluster.system_pool),
                "gpu_pools": {name: arguments.node_pool(pool) for name, pool in cluster.gpu_pools.items()},
                "node_autoscaler": cluster.node_autoscaler != "none",
                "service_cidr": cluster.service_cidr,
                "public_access_cidrs": cluster.public_access_cidrs,
                "access_entries": {
                    name: arguments.access_entry(entry) for name, entry in cluster.access_entries.items()
                },
                "addon_versions": cluster.addon_versions,
                "log_retention_days": self._settings.log_retention_days,
                "deletion_protection": self._settings.protect,
            },
            # Nodes reach AWS through the NAT gateways and endpoints, to join the cluster and to leave it.
            pulumi.ResourceOptions(providers=[self._aws], depends_on=[self._network]),
        )

    def _create_cache(self) -> SemanticCache:
        cache = self._settings.cache
        return SemanticCache(
            "cache",
            {
                "vpc_id": self._network.vpc_id,
                "subnet_ids": self._network.private_subnet_ids,
                "client_security_group_id": self._cluster.cluster_security_group_id,
                "node_type": cache.node_type,
                "engine_version": cache.engine_version,
                "replicas": cache.replicas,
                "snapshot_retention_days": cache.snapshot_retention_days,
                "protect": self._settings.protect,
            },
            self._on_aws,
        )

    def _create_namespace(self) -> kubernetes.core.v1.Namespace:
        levels = dict.fromkeys(("enforce", "warn", "audit"), "restricted")
        return kubernetes.core.v1.Namespace(
            KUBERNETES_NAMESPACE,
            metadata={
                "name": KUBERNETES_NAMESPACE,
                "labels": {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()},
            },
            opts=self._in_cluster_options(),
        )

    def _create_service(self, name: str, version: str) -> InferenceService:
        model = self._settings.models[name].version(version)
        service = service_name(name, version)
        args: InferenceServiceArgs = {
            "cluster_name": self._cluster.cluster_name,
            "namespace": self._namespace.metadata.name.apply(str),
            "model": name,
            "revision": model.revision,
            "weight_gb": model.weight_gb,
            "bucket_name": self._bucket.bucket_name,
            "bucket_arn": self._bucket.bucket_arn,
            "bucket_key_arn": self._bucket.kms_key_arn,
            "image": self._images.runtime(model.runtime),
            "loader_image": self._images.of("model-loader", self._settings.images.model_loader),
            "pool": model.pool,
            "runtime": model.runtime,
            "gpus": model.gpus,
            "nodes": model.nodes,
            "max_input_tokens": model.max_input_tokens,
            "max_total_tokens": model.max_total_tokens,
            "max_concurrent_requests": model.max_concurrent_requests,
            "cpu_millicores": model.cpu_millicores,
            "memory_mib": model.memory_mib,
            "engine": model.engine,
            "pods_service": model.prefix_affinity,
        }
        if service != name:
            args["service_name"] = service
        if model.adapters:
            args["adapters"] = {adapter: arguments.adapter(own) for adapter, own in model.adapters.items()}
        if model.autoscaling:
            args["autoscaling"] = arguments.scaling(model.autoscaling, self._monitoring.prometheus_url)
        else:
            args["replicas"] = model.replicas
        if model.weights is not None:
            args["weights"] = model.weights
        if model.dtype is not None:
            args["dtype"] = model.dtype
        if model.quantization is not None:
            args["quantization"] = model.quantization
        if model.kv_cache_dtype is not None:
            args["kv_cache_dtype"] = model.kv_cache_dtype
        if model.gpu_memory_utilization is not None:
            args["gpu_memory_utilization"] = model.gpu_memory_utilization
        if model.max_batch_prefill_tokens is not None:
            args["max_batch_prefill_tokens"] = model.max_batch_prefill_tokens
        # KEDA must be there for as long as what it scales: it has to let go of each before that can be deleted.
        scaled_by = [self._autoscaling] if model.autoscaling and self._autoscaling else []
        # So must the controller of the groups, for whose type there is no API without it.
        run_by = [self._leader_worker_sets] if model.nodes > 1 and self._leader_worker_sets else []
        return InferenceService(service, args, self._in_cluster_options(*scaled_by, *run_by))

    def _create_embedding_service(self, name: str) -> None:
        settings = self._settings.embeddings[name]
        args: EmbeddingServiceArgs = {
            "namespace": self._namespace.metadata.name.apply(str),
            "model": name,
            "image": self._images.embedder(settings.device),
            "device": settings.device,
            "replicas": settings.replicas,
            "cpu_millicores": settings.cpu_millicores,
            "memory_mib": settings.memory,
            "timeout_seconds": settings.timeout_seconds,
            "truncate": settings.truncate,
        }
        if settings.pool is not None:
            args["pool"] = settings.pool
        EmbeddingService(name, args, self._in_cluster_options())

    def _create_monitoring(self) -> Monitoring:
        settings = self._settings.monitoring
        cluster = self._settings.cluster
        args: MonitoringArgs = {
            "cluster_name": self._cluster.cluster_name,
            "models": {
                service: arguments.watched_model(name, service, version)
                for name, model in self._settings.models.items()
                for service, version in model.services(name).items()
            },
            "embeddings": {
                name: {"pool": each.pool or taints.SYSTEM_POOL, "gpus": int(each.device == "gpu")}
                for name, each in self._settings.embeddings.items()
            },
            "pools": {
                taints.SYSTEM_POOL: cluster.system_pool.instance_types,
                **{name: pool.instance_types for name, pool in cluster.gpu_pools.items()},
            },
            "workload_namespace": KUBERNETES_NAMESPACE,
            "operator": settings.operator,
            "replicas": settings.replicas,
            "retention_days": settings.retention_days,
            "storage_gb": settings.storage_gb,
            "scrape_interval_seconds": settings.scrape_interval_seconds,
            "cpu_millicores": settings.cpu_millicores,
            "memory_mib": settings.memory_mib,
            "prices_usd_per_hour": settings.prices_usd_per_hour,
            "cache": self._settings.cache.enabled,
            "alert_emails": settings.alert_emails,
            "runbook_base_url": settings.runbook_base_url,
        }
        if settings.budget_usd_per_hour is not None:
            args["budget_usd_per_hour"] = settings.budget_usd_per_hour
        return Monitoring("monitoring", args, self._in_cluster_options())

    def _create_gpu_agents(self) -> None:
        images = self._settings.images
        args: GpuAgentsArgs = {"dcgm_exporter_image": self._images.of("dcgm-exporter", images.dcgm_exporter)}
        if images.device_plugin:
            pools = self._settings.cluster.gpu_pools
            args["device_plugin_image"] = self._images.of("device-plugin", images.device_plugin)
            args["device_plugin_pools"] = [
                name for name, pool in pools.items() if not _node_groups.has_device_plugin(pool.ami_type)
            ]
        # The operator's custom resources come with it.
        GpuAgents("gpu-agents", args, self._in_cluster_options(self._monitoring))

    def _create_node_autoscaling(self) -> None:
        if self._settings.cluster.installs_node_autoscaler:
            # It has its own metrics scraped, by the Prometheus operator's custom resources.
            NodeAutoscaling(
                "node-autoscaling",
                {"cluster_name": self._cluster.cluster_name},
                self._in_cluster_options(self._monitoring),
            )

    def _create_autoscaling(self) -> Autoscaling | None:
        if self._settings.autoscaling.operator == "existing":
            return None
        if not any(model.autoscaling for model in self._settings.models.values()):
            return None
        # It has its own metrics scraped, by the Prometheus operator's custom resources.
        return Autoscaling("autoscaling", {}, self._in_cluster_options(self._monitoring))

    def _create_leader_worker_sets(self) -> LeaderWorkerSets | None:
        services = (each for name, model in self._settings.models.items() for each in model.services(name).values())
        if self._settings.leader_worker_sets.controller == "existing" or all(each.nodes == 1 for each in services):
            return None
        return LeaderWorkerSets("leader-worker-sets", {}, self._in_cluster_options())

    def _create_gateway(self) -> LlmGateway:
        settings = self._settings
        args: LlmGatewayArgs = {
            "vpc_id": self._network.vpc_id,
            "subnet_ids": self._network.private_subnet_ids,
            "cluster_security_group_id": self._cluster.cluster_security_group_id,
            "namespace": self._namespace.metadata.name.apply(str),
            "image": self._images.of("llm-gateway", settings.images.llm_gateway),
            "models": arguments.routes(settings, KUBERNETES_NAMESPACE),
            "cache_url": self._cache.url,
            "cache_enabled": settings.cache.enabled,
            "cache_ttl_seconds": settings.cache.ttl_seconds,
            "replicas": settings.gateway.replicas,
            "cpu_millicores": settings.gateway.cpu_millicores,
            "memory_mib": settings.gateway.memory_mib,
            "key_requests_per_minute": settings.gateway.key_requests_per_minute or 0,
            "key_tokens_per_minute": settings.gateway.key_tokens_per_minute or 0,
            "deletion_protection": settings.protect,
        }
        if settings.cache.semantic and settings.cache.enabled:
            args["semantic_cache"] = arguments.semantic_tier(settings.cache.semantic, KUBERNETES_NAMESPACE)
        if settings.api_gateway.cors_origins:
            args["cors_origins"] = settings.api_gateway.cors_origins
        if settings.api_gateway.jwt:
            args["jwt"] = arguments.jwt(settings.api_gateway.jwt)
        if settings.gateway.traces:
            args["traces"] = arguments.traces(settings.gateway.traces)
        # Requests move to a version when it is ready. What gets none is not waited for: a way back that waits for the
        # version that is broken would be none.
        return LlmGateway("gateway", args, self._in_cluster_options(*self._weighted))

    def _create_api(self) -> ApiGateway:
        api = self._settings.api_gateway
        args: ApiGatewayArgs = {
            "load_balancer_arn": self._gateway.load_balancer_arn,
            "load_balancer_dns_name": self._gateway.load_balancer_dns_name,
            "usage_plans": {name: arguments.usage_plan(plan) for name, plan in api.usage_plans.items()},
            "response_transfer_mode": api.response_transfer_mode,
            "requests_per_second": api.requests_per_second,
            "burst": api.burst,
            "log_retention_days": self._settings.log_retention_days,
            "manage_account_role": api.manage_account_role,
        }
        if api.timeout_seconds is not None:
            args["timeout_seconds"] = api.timeout_seconds
        if api.cors_origins:
            args["cors_origins"] = api.cors_origins
        if api.jwt is not None:
            args["authentication"] = "TOKEN"
        if api.url is not None:
            args["url"] = api.url
        if api.firewall.enabled:
            args["firewall"] = arguments.firewall(api.firewall)
        if api.domain is not None:
            args["domain"] = arguments.domain(api.domain)
        return ApiGateway("api", args, self._on_aws)

    def _create_logging(self) -> Logging:
        logging = self._settings.logging
        args: LoggingArgs = {
            "cluster_name": self._cluster.cluster_name,
            "api_access_log_group": self._api.access_log_group,
            "log_retention_days": self._settings.log_retention_days,
            "container_insights": logging.container_insights,
            "alarm_topic_arns": logging.alarm_topic_arns,
            "require_tls": self._settings.model_bucket.require_tls,
            "protect": self._settings.protect,
        }
        if self._settings.api_gateway.firewall.enabled:
            args["firewall_log_group"] = self._api.firewall_log_group
        if logging.addon_version is not None:
            args["addon_version"] = logging.addon_version
        if logging.open_search_domain_arn is not None:
            args["open_search"] = {"domain_arn": logging.open_search_domain_arn}
            if logging.open_search_security_group_ids:
                args["open_search"]["subnet_ids"] = self._network.private_subnet_ids
                args["open_search"]["security_group_ids"] = logging.open_search_security_group_ids
        # Its pods need nodes and the Pod Identity agent.
        return Logging("logging", args, pulumi.ResourceOptions(providers=[self._aws], depends_on=[self._cluster]))

    def _in_cluster_options(self, *depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
        """Return options of what runs in the cluster: made after its nodes and add-ons, and so deleted before them."""
        return pulumi.ResourceOptions(providers=[self._aws, self._kubernetes], depends_on=[self._cluster, *depends_on])
