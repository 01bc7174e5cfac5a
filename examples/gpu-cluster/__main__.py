"""An EKS cluster with GPU nodes in a network that is there already: `GpuCluster` alone."""

import pulumi

from llm_serving import GpuCluster

config = pulumi.Config()
cluster = GpuCluster(
    "inference",
    {
        "cluster_name": f"{pulumi.get_project()}-{pulumi.get_stack()}",
        "version": "1.36",
        "vpc_id": config.require("vpcId"),
        "subnet_ids": config.require_object("subnetIds"),
        "system_pool": {"instance_types": ["m7i.large"], "min_size": 2, "desired_size": 2, "max_size": 4},
        "gpu_pools": {"l4": {"instance_types": ["g6.xlarge"], "min_size": 0, "desired_size": 1, "max_size": 4}},
        "deletion_protection": config.require_bool("protect"),
    },
)
pulumi.export("clusterName", cluster.cluster_name)
pulumi.export("clusterSecurityGroupId", cluster.cluster_security_group_id)
pulumi.export("kubeconfig", cluster.kubeconfig)
