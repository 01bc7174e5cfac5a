"""The customer-managed KMS key that every component with data at rest makes for itself, always with rotation."""

import pulumi
import pulumi_aws as aws

from llm_serving import _iam


def encryption_key(
    name: str, description: str, *, parent: pulumi.Resource, log_groups: bool = False, protect: bool = False
) -> aws.kms.Key:
    """Create a key named `name` that rotates every year, usable by CloudWatch Logs where `log_groups` is set.

    A key lives 30 days after its deletion is asked for, the longest that KMS offers: what it encrypted can be saved.
    With `protect` Pulumi refuses to delete or replace it, as it should with the key of what can't be made again.
    """
    lookup = pulumi.InvokeOptions(parent=parent)
    policy = pulumi.Output.all(
        aws.get_partition_output(opts=lookup).partition,
        aws.get_caller_identity_output(opts=lookup).account_id,
        aws.get_region_output(opts=lookup).region,
    ).apply(lambda values: _iam.key_policy(values[0], values[1], values[2], log_groups=log_groups))
    return aws.kms.Key(
        name,
        description=description,
        enable_key_rotation=True,
        deletion_window_in_days=30,
        policy=policy,
        tags={"Name": name},
        opts=pulumi.ResourceOptions(parent=parent, protect=protect),
    )
