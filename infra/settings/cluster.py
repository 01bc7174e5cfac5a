"""The EKS cluster, its node groups and who may use it."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section, checked, named, problem_of
from llm_serving import _checks, _cidr, _node_groups, taints
from llm_serving.capacity import catalog


class PoolSettings(Section):
    """A node group."""

    instance_types: Annotated[list[str], Field(min_length=1)]
    """Instance types, most wanted first."""
    min_size: Annotated[int, Field(ge=0, le=450)]
    """Fewest nodes."""
    desired_size: Annotated[int, Field(ge=0, le=450)]
    """Nodes to have now. Where `nodeAutoscaler` is not none and minSize is below maxSize: to have at first."""
    max_size: Annotated[int, Field(ge=1, le=450)]
    """Most nodes. 450 is the EKS quota of a node group."""
    capacity_type: Literal["ON_DEMAND", "SPOT"] = "ON_DEMAND"
    """How the instances are bought."""
    release_version: str | None = None
    """Exact EKS AMI release. Default: the newest when the group is created."""

    def sizes(self) -> Iterator[str]:
        """Check that the sizes are in order."""
        fields = ("minSize", "desiredSize", "maxSize")
        yield from problem_of(_checks.between, fields, self.min_size, self.desired_size, self.max_size)


class SystemPoolSettings(PoolSettings):
    """The node group without GPUs."""

    ami_type: _node_groups.SystemAmiType = "AL2023_x86_64_STANDARD"
    """EKS image family."""
    disk_gb: Annotated[int, Field(ge=_node_groups.SYSTEM_DISK_GB, le=_node_groups.LARGEST_DISK_GB)] = 50
    """Root disk in GB."""

    def problems(self) -> Iterator[str]:
        """Check the sizes: cluster DNS needs a node."""
        yield from self.sizes()
        if self.min_size < 1:
            yield "minSize: 0 leaves cluster DNS without a node; nearest valid value: 1"


class GpuPoolSettings(PoolSettings):
    """A node group with GPUs."""

    ami_type: _node_groups.GpuAmiType = "AL2023_x86_64_NVIDIA"
    """EKS image family, always one with NVIDIA drivers."""
    disk_gb: Annotated[int, Field(ge=_node_groups.SMALLEST_GPU_DISK_GB, le=_node_groups.LARGEST_DISK_GB)] = 100
    """Root disk in GB: twice an image of 25 GB, and the weights."""

    def problems(self) -> Iterator[str]:
        """Check the sizes and that every instance type has GPUs."""
        yield from self.sizes()
        for instance_type in self.instance_types:
            yield from problem_of(_node_groups.check_gpu_instance_type, "instanceTypes", instance_type)

    def architectures(self) -> set[str]:
        """Return the architectures of the pool's GPUs that the catalog knows, as CUDA names them: sm90."""
        known = catalog.instances()
        found = (known[each].gpu.compute_capability for each in self.instance_types if each in known)
        return {f"sm{major}{minor}" for major, minor in found}


class AccessEntrySettings(Section):
    """A way into the cluster for an IAM principal."""

    principal_arn: Annotated[
        str,
        Field(
            pattern=r"^arn:[a-z-]+:iam::\d{12}:(role|user)/.+$",
            examples=["arn:aws:iam::111111111111:role/platform-team"],
        ),
    ]
    """ARN of the IAM role or user."""
    policy: Literal[
        "AmazonEKSClusterAdminPolicy",
        "AmazonEKSAdminPolicy",
        "AmazonEKSAdminViewPolicy",
        "AmazonEKSEditPolicy",
        "AmazonEKSViewPolicy",
    ]
    """EKS access policy."""
    namespaces: list[str] = Field(default_factory=list[str])
    """Namespaces that the policy is limited to. Default: the whole cluster."""


class ClusterSettings(Section):
    """The EKS cluster."""

    version: Annotated[str, Field(pattern=r"^1\.\d{2}$", examples=["1.36"])]
    """Kubernetes version, in quotes, as in "1.36"."""
    name: str | None = None
    """The cluster's name. Default: <project>-<stack>. Changing it replaces the cluster."""
    service_cidr: Annotated[str, checked(_cidr.service_network, "serviceCidr")] = "172.20.0.0/16"
    """Range of service addresses."""
    public_access_cidrs: list[str] = Field(default_factory=list[str])
    """Ranges that reach the API server from the internet. Default: none, it is private."""
    access_entries: dict[str, AccessEntrySettings] = Field(default_factory=dict[str, AccessEntrySettings])
    """Who may use the cluster besides its creator."""
    addon_versions: dict[str, str] = Field(default_factory=dict[str, str])
    """Versions of EKS add-ons by name. Default: chosen by AWS."""
    system_pool: SystemPoolSettings
    """The node group without GPUs, named system."""
    gpu_pools: dict[str, GpuPoolSettings] = Field(default_factory=dict[str, GpuPoolSettings])
    """Node groups with GPUs by name."""
    node_autoscaler: Literal["install", "existing", "none"] = "install"
    """Who sets the sizes of node groups whose minSize is below their maxSize. `install` brings the cluster autoscaler
    by its chart; `existing` leaves them to the one that the cluster has; with `none` an update sets desiredSize."""

    @property
    def installs_node_autoscaler(self) -> bool:
        """Whether the cluster autoscaler is to be installed: there must be a group that can change."""
        pools = (self.system_pool, *self.gpu_pools.values())
        return self.node_autoscaler == "install" and any(pool.min_size < pool.max_size for pool in pools)

    def problems(self) -> Iterator[str]:
        """Check names and the service range."""
        for cidr in self.public_access_cidrs:
            yield from problem_of(_cidr.public_network, "publicAccessCidrs", cidr)
        yield from named("gpuPools", self.gpu_pools)
        if taints.SYSTEM_POOL in self.gpu_pools:
            yield "gpuPools.system: the name is taken by the system pool; nearest valid value: gpu"
