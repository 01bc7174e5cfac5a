"""One model on a cluster that is there already: `InferenceService` alone.

The weights are in a bucket that another team's stack may own; the pods get a role that reads this revision only.
"""

import pulumi
import pulumi_kubernetes as kubernetes

from llm_serving import InferenceService

config = pulumi.Config()
cluster_name = config.require("clusterName")
bucket = config.require("bucket")
cluster = kubernetes.Provider("cluster", cluster_identifier=cluster_name)
service = InferenceService(
    "model",
    {
        "cluster_name": cluster_name,
        "namespace": config.require("namespace"),
        "bucket_name": bucket,
        "bucket_arn": f"arn:aws:s3:::{bucket}",
        "bucket_key_arn": config.require("bucketKeyArn"),
        "image": config.require("image"),
        "loader_image": config.require("loaderImage"),
        "model": config.require("model"),
        "revision": config.require("revision"),
        "weight_gb": config.require_float("weightGb"),
        "pool": config.require("pool"),
        "max_input_tokens": 1024,
        "max_total_tokens": 2048,
        "cpu_millicores": config.require_int("cpuMillicores"),
        "memory_mib": config.require_int("memoryMib"),
    },
    pulumi.ResourceOptions(providers=[cluster]),
)
pulumi.export("url", service.url)
pulumi.export("roleArn", service.role_arn)
