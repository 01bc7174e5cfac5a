"""The EKS cluster of an environment, its system node group and its GPU node groups."""

import json
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from llm_serving import _checks, _iam, _node_groups, taints
from llm_serving._keys import encryption_key

CONTROL_PLANE_LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
)
MANAGED_ADDONS = ("vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent", "aws-ebs-csi-driver")


class NodePoolArgs(TypedDict):
    """One node group. `desired_size` is what an update sets; where a node autoscaler does, only where it begins."""

    instance_types: Sequence[str]
    """Instance types, most wanted first; more than one only helps spot capacity."""
    min_size: int
    """Fewest nodes."""
    desired_size: int
    """Nodes to have now, within `min_size` and `max_size`; with `node_autoscaler`, to have at first."""
    max_size: int
    """Most nodes."""
    ami_type: NotRequired[str]
    """EKS image family. Default: AL2023_x86_64_NVIDIA for GPU pools, AL2023_x86_64_STANDARD for the system pool."""
    release_version: NotRequired[str]
    """Exact EKS AMI release, as in 1.36.0-20261103. Default: the newest when the group is created."""
    disk_gb: NotRequired[int]
    """Root disk in GB. Default: 100 for GPU pools, 50 for the system pool."""
    capacity_type: NotRequired[str]
    """`ON_DEMAND` or `SPOT`. Default: ON_DEMAND."""


class AccessEntryArgs(TypedDict):
    """A person's or pipeline's way into the cluster, by IAM principal."""

    principal_arn: pulumi.Input[str]
    """ARN of the IAM role or user."""
    policy: str
    """EKS access policy by name, as in AmazonEKSClusterAdminPolicy or AmazonEKSViewPolicy."""
    namespaces: NotRequired[Sequence[str]]
    """Namespaces that the policy is limited to. Default: the whole cluster."""


class GpuClusterArgs(TypedDict):
    """Arguments of `GpuCluster`."""

    cluster_name: str
    """The cluster's name on AWS, which is its identity: changing it replaces the cluster."""
    version: str
    """Kubernetes version, as in 1.36."""
    vpc_id: pulumi.Input[str]
    """VPC to live in."""
    subnet_ids: pulumi.Input[Sequence[str]]
    """Private subnets, in two zones at least, for the control plane's interfaces and the nodes."""
    system_pool: NodePoolArgs
    """Nodes without GPUs for cluster services and the gateway."""
    gpu_pools: NotRequired[Mapping[str, NodePoolArgs]]
    """GPU node groups by pool name. Default: none."""
    node_autoscaler: NotRequired[bool]
    """Whether a node autoscaler sets the size of every group whose `min_size` is below its `max_size`. An update then
    leaves that size alone. Default: false, every update sets `desired_size`."""
    service_cidr: NotRequired[str]
    """Range of the cluster's service addresses; must not overlap the VPC. Default: 172.20.0.0/16."""
    public_access_cidrs: NotRequired[Sequence[str]]
    """Ranges that reach the API server from the internet. Default: none, the API server is private."""
    access_entries: NotRequired[Mapping[str, AccessEntryArgs]]
    """Who may use the cluster, by a name of your choice. The creator is an administrator besides."""
    addon_versions: NotRequired[Mapping[str, str]]
    """Versions of the EKS add-ons by name. Default: chosen by AWS for the Kubernetes version."""
    log_retention_days: NotRequired[int]
    """Days that control-plane logs are kept, one of the periods that CloudWatch offers. Default: 90."""
    deletion_protection: NotRequired[bool]
    """Whether AWS and Pulumi refuse to delete the cluster, and Pulumi its key. Default: true."""


class GpuCluster(pulumi.ComponentResource):
    """An EKS cluster in API authentication mode with encrypted secrets, all control-plane logs and GPU pools.

    Raises ValueError at construction for a pool whose size, disk, image or instance type cannot work.
    """

    cluster_name: pulumi.Output[str]
    """Name of the cluster, known when it can be used."""
    endpoint: pulumi.Output[str]
    """Address of the API server."""
    kubeconfig: pulumi.Output[str]
    """Kubeconfig as JSON; gets its token from `aws eks get-token`. Secret."""
    cluster_security_group_id: pulumi.Output[str]
    """Security group of every node and pod, made by EKS."""
    node_role_arn: pulumi.Output[str]
    """ARN of the role of all nodes."""
    ready: pulumi.Output[bool]
    """True once the node groups and add-ons are there. Depend on it to run workloads."""

    def __init__(self, name: str, args: GpuClusterArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:GpuCluster", name, {}, opts)
        self._name = name
        self._args = args
        self._partition = aws.get_partition_output(opts=pulumi.InvokeOptions(parent=self)).partition
        gpu_pools = args.get("gpu_pools", {})
        check_pool("system_pool", args["system_pool"], gpu=False)
        for pool, pool_args in gpu_pools.items():
            if pool == taints.SYSTEM_POOL:
                raise ValueError(f"gpu_pools: the name {pool!r} is taken by the system pool; nearest valid value: gpu")
            check_pool(f"gpu_pools.{pool}", pool_args, gpu=True)
        for addon in args.get("addon_versions", {}):
            _checks.one_of("addon_versions", addon, MANAGED_ADDONS)

        self._cluster = self._create_cluster()
        role, attachments = self._node_role()
        groups = {taints.SYSTEM_POOL: self._node_group(taints.SYSTEM_POOL, args["system_pool"], role, attachments)}
        for pool, pool_args in gpu_pools.items():
            groups[pool] = self._node_group(pool, pool_args, role, attachments, gpu=True)
        addons = self._addons(groups[taints.SYSTEM_POOL])

        self.kubeconfig = pulumi.Output.secret(self._cluster.kubeconfig_json)
        # The address in it is no secret, whatever else the kubeconfig holds.
        self.endpoint = pulumi.Output.unsecret(self._cluster.kubeconfig_json.apply(_server))
        self.cluster_security_group_id = self._cluster.cluster_security_group_id
        self.node_role_arn = role.arn
        self.cluster_name = self.endpoint.apply(lambda _: args["cluster_name"])
        self.ready = pulumi.Output.all(
            *[group.urn for group in groups.values()], *[addon.arn for addon in addons]
        ).apply(lambda _: True)
        self.register_outputs(
            {
                "clusterName": self.cluster_name,
                "endpoint": self.endpoint,
                "kubeconfig": self.kubeconfig,
                "clusterSecurityGroupId": self.cluster_security_group_id,
                "nodeRoleArn": self.node_role_arn,
                "ready": self.ready,
            }
        )

    def _create_cluster(self) -> eks.Cluster:
        args = self._args
        versions = args.get("addon_versions", {})
        # Without it the CNI lets every pod reach every other, whatever the network policies say.
        cni: eks.VpcCniOptionsArgsDict = {"enable_network_policy": True}
        if "vpc-cni" in versions:
            cni["addon_version"] = versions["vpc-cni"]
        public_cidrs = list(args.get("public_access_cidrs", []))
        protect = args.get("deletion_protection", True)
        key = encryption_key(
            f"{self._name}-key",
            f"Secrets and logs of {args['cluster_name']}",
            parent=self,
            log_groups=True,
            protect=protect,
        )
        # EKS would create this group itself, without encryption and kept for ever.
        logs = aws.cloudwatch.LogGroup(
            f"{self._name}-control-plane",
            name=f"/aws/eks/{args['cluster_name']}/cluster",
            retention_in_days=_checks.retention_days("log_retention_days", args.get("log_retention_days", 90)),
            kms_key_id=key.arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return eks.Cluster(
            self._name,
            name=args["cluster_name"],
            version=args["version"],
            vpc_id=args["vpc_id"],
            private_subnet_ids=args["subnet_ids"],
            kubernetes_service_ip_address_range=args.get("service_cidr", "172.20.0.0/16"),
            authentication_mode=eks.AuthenticationMode.API,
            access_entries={
                entry: _access_entry(entry_args, self._partition)
                for entry, entry_args in args.get("access_entries", {}).items()
            },
            create_oidc_provider=False,
            skip_default_node_group=True,
            # Nodes, pods and the control plane share the security group that EKS makes for the cluster.
            skip_default_security_groups=True,
            # The add-ons below take the place of the unmanaged copies; set explicitly, since it replaces the cluster.
            bootstrap_self_managed_addons=False,
            encryption_config_key_arn=key.arn,
            enabled_cluster_log_types=list(CONTROL_PLANE_LOGS),
            endpoint_private_access=True,
            endpoint_public_access=bool(public_cidrs),
            public_access_cidrs=public_cidrs or None,
            deletion_protection=protect,
            vpc_cni_options=cni,
            kube_proxy_addon_options=({"version": versions["kube-proxy"]} if "kube-proxy" in versions else None),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[logs], transforms=[protect_cluster] if protect else None
            ),
        )

    def _node_role(self) -> tuple[aws.iam.Role, list[aws.iam.RolePolicyAttachment]]:
        role = aws.iam.Role(
            f"{self._name}-node",
            description=f"Nodes of {self._args['cluster_name']}",
            assume_role_policy=_iam.service_trust("ec2.amazonaws.com"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        attachments = [
            aws.iam.RolePolicyAttachment(
                f"{self._name}-node-{policy}",
                role=role.name,
                policy_arn=pulumi.Output.concat("arn:", self._partition, ":iam::aws:policy/", policy),
                opts=pulumi.ResourceOptions(parent=self),
            )
            for policy in NODE_POLICIES
        ]
        return role, attachments

    def _node_group(
        self,
        pool: str,
        args: NodePoolArgs,
        role: aws.iam.Role,
        attachments: Sequence[aws.iam.RolePolicyAttachment],
        *,
        gpu: bool = False,
    ) -> eks.ManagedNodeGroup:
        ami_type = args.get("ami_type", _node_groups.default_ami_type(gpu=gpu))
        template = aws.ec2.LaunchTemplate(
            f"{self._name}-{pool}",
            **_node_groups.launch_template(
                ami_type,
                int(args.get("disk_gb", _node_groups.default_disk_gb(gpu=gpu))),
                {"Name": f"{self._args['cluster_name']}-{pool}"},
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return eks.ManagedNodeGroup(
            f"{self._name}-{pool}",
            cluster=self._cluster,
            node_role_arn=role.arn,
            ami_type=ami_type,
            version=self._args["version"],
            release_version=args.get("release_version"),
            capacity_type=args.get("capacity_type", "ON_DEMAND"),
            instance_types=list(args["instance_types"]),
            subnet_ids=self._args["subnet_ids"],
            scaling_config={
                "min_size": int(args["min_size"]),
                "desired_size": int(args["desired_size"]),
                "max_size": int(args["max_size"]),
            },
            ignore_scaling_changes=self._autoscaled(args) or None,
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            labels=_node_groups.labels(pool, gpu=gpu),
            taints=[taints.gpu_node_group_taint()] if gpu else None,
            # The role keeps its policies for as long as its nodes run.
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(attachments)),
        )

    def _autoscaled(self, pool: NodePoolArgs) -> bool:
        """Return whether an autoscaler owns the pool's size: one that can't change stays the program's."""
        return self._args.get("node_autoscaler", False) and int(pool["min_size"]) < int(pool["max_size"])

    def _addons(self, system: eks.ManagedNodeGroup) -> list[aws.eks.Addon]:
        """Create the add-ons that run on nodes; eks.Cluster brings those that nodes need, the CNI and kube-proxy."""
        return [
            self._addon("coredns", system),
            self._addon("eks-pod-identity-agent", system),
            self._addon("aws-ebs-csi-driver", system, self._disk_identity()),
        ]

    def _addon(self, addon: str, *depends_on: pulumi.Resource) -> aws.eks.Addon:
        return aws.eks.Addon(
            f"{self._name}-{addon}",
            cluster_name=self._args["cluster_name"],
            addon_name=addon,
            addon_version=self._args.get("addon_versions", {}).get(addon),
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(depends_on)),
        )

    def _disk_identity(self) -> aws.eks.PodIdentityAssociation:
        """Let the EBS driver make the disks that pods claim. Without it a claim waits for ever and says nothing."""
        name = f"{self._name}-disks"
        role = aws.iam.Role(
            name,
            description=f"EBS driver of {self._args['cluster_name']}",
            assume_role_policy=_iam.pod_identity_trust(),
            opts=pulumi.ResourceOptions(parent=self),
        )
        policy = aws.iam.RolePolicyAttachment(
            name,
            role=role.name,
            policy_arn=pulumi.Output.concat(
                "arn:", self._partition, ":iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return aws.eks.PodIdentityAssociation(
            name,
            cluster_name=self._args["cluster_name"],
            namespace="kube-system",
            service_account="ebs-csi-controller-sa",
            role_arn=role.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._cluster, policy]),
        )


def protect_cluster(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
    """Protect the cluster itself: `protect` on eks.Cluster would also keep its access entries from being revoked."""
    if args.type_ != "aws:eks/cluster:Cluster":
        return None
    opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(protect=True))
    return pulumi.ResourceTransformResult(props=args.props, opts=opts)


def check_pool(field: str, pool: NodePoolArgs, *, gpu: bool) -> None:
    """Check one pool's arguments; raises ValueError that names the field, its value and the nearest valid one."""
    largest = 450  # EKS quota: nodes per managed node group
    sizes = [
        _checks.whole(f"{field}.min_size", pool["min_size"], low=0, high=largest),
        _checks.whole(f"{field}.desired_size", pool["desired_size"], low=0, high=largest),
        _checks.whole(f"{field}.max_size", pool["max_size"], low=1, high=largest),
    ]
    _checks.between((f"{field}.min_size", f"{field}.desired_size", f"{field}.max_size"), *sizes)
    if not gpu and sizes[0] < 1:
        raise ValueError(f"{field}.min_size: 0 leaves cluster DNS without a node; nearest valid value: 1")
    smallest = _node_groups.SMALLEST_GPU_DISK_GB if gpu else _node_groups.SYSTEM_DISK_GB
    if "disk_gb" in pool:
        _checks.whole(f"{field}.disk_gb", pool["disk_gb"], low=smallest, high=_node_groups.LARGEST_DISK_GB, unit="GB")
    if "ami_type" in pool:
        allowed = _node_groups.GPU_AMI_TYPES if gpu else _node_groups.SYSTEM_AMI_TYPES
        _checks.one_of(f"{field}.ami_type", pool["ami_type"], allowed)
    if "capacity_type" in pool:
        _checks.one_of(f"{field}.capacity_type", pool["capacity_type"], _node_groups.CAPACITY_TYPES)
    if not pool["instance_types"]:
        raise ValueError(f"{field}.instance_types: is empty; nearest valid value: one instance type")
    if gpu:
        for instance_type in pool["instance_types"]:
            _node_groups.check_gpu_instance_type(f"{field}.instance_types", instance_type)


def _access_entry(args: AccessEntryArgs, partition: pulumi.Input[str]) -> eks.AccessEntryArgs:
    namespaces = list(args.get("namespaces", []))
    scope = aws.eks.AccessPolicyAssociationAccessScopeArgs(
        type="namespace" if namespaces else "cluster", namespaces=namespaces or None
    )
    policy_arn = pulumi.Output.concat("arn:", partition, ":eks::aws:cluster-access-policy/", args["policy"])
    return eks.AccessEntryArgs(
        principal_arn=args["principal_arn"],
        access_policies={"policy": eks.AccessPolicyAssociationArgs(policy_arn=policy_arn, access_scope=scope)},
    )


def _server(kubeconfig: str) -> str:
    server: str = json.loads(kubeconfig)["clusters"][0]["cluster"]["server"]
    return server
