"""The cache in front of the models: ElastiCache for Valkey with TLS, a password, and one secret to connect with."""

import json
import secrets
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks
from llm_serving._keys import encryption_key

PORT = 6379
"""The port that ElastiCache gives a cache which names none, as this one does."""
ENGINE_VERSIONS = ("8.2",)
"""Vector search needs Valkey 8.2 or newer on nodes; ElastiCache Serverless and Redis OSS do not have it."""
MEMORY_POLICY = "volatile-lru"
"""Evicts entries with a lifetime, least recently used first: every cache entry has one."""


class SemanticCacheArgs(TypedDict):
    """Arguments of `SemanticCache`."""

    vpc_id: pulumi.Input[str]
    """VPC to live in."""
    subnet_ids: pulumi.Input[Sequence[str]]
    """Private subnets."""
    client_security_group_id: pulumi.Input[str]
    """Security group of the clients, which alone reach the cache."""
    node_type: str
    """ElastiCache node type, as in cache.r7g.large."""
    engine_version: NotRequired[str]
    """Valkey version. Default: 8.2."""
    replicas: NotRequired[int]
    """Copies besides the primary, 0 to 5, in other zones; with one or more the cache fails over. Default: 1."""
    snapshot_retention_days: NotRequired[int]
    """Days that daily snapshots are kept; 0 keeps none. Default: 7."""
    protect: NotRequired[bool]
    """Whether Pulumi refuses to delete or replace the cache, its key and its secrets, and a last snapshot is taken.
    Default: true."""


class SemanticCache(pulumi.ComponentResource):
    """A Valkey replication group that can be reached over TLS, with a password, from one security group.

    Raises ValueError at construction for an engine version without vector search or a number out of range.
    """

    endpoint: pulumi.Output[str]
    """Host name of the primary."""
    port: pulumi.Output[int]
    """Port of the primary."""
    url: pulumi.Output[str]
    """Where and how to connect, as in rediss://:TOKEN@HOST:PORT/0. Secret."""
    connection_secret_arn: pulumi.Output[str]
    """ARN of the Secrets Manager secret that holds {"url": ...}."""

    def __init__(self, name: str, args: SemanticCacheArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:SemanticCache", name, {}, opts)
        self._name = name
        version = _checks.one_of("engine_version", args.get("engine_version", "8.2"), ENGINE_VERSIONS)
        replicas = _checks.whole("replicas", args.get("replicas", 1), low=0, high=5)
        snapshots = _checks.whole(
            "snapshot_retention_days", args.get("snapshot_retention_days", 7), low=0, high=35, unit="days"
        )
        if not args["node_type"].startswith("cache."):
            raise ValueError(
                f"node_type: {args['node_type']!r} is no ElastiCache node type;"
                f" nearest valid value: cache.{args['node_type']}"
            )
        protect = args.get("protect", True)
        key = encryption_key(f"{name}-key", f"Cache {name} and its secrets", parent=self, protect=protect)
        token = self._token(key, args)
        group = self._replication_group(args, key, token, version=version, replicas=replicas, snapshots=snapshots)
        self.endpoint = group.primary_endpoint_address
        self.port = group.port.apply(lambda port: int(port or PORT))
        self.url = pulumi.Output.secret(
            pulumi.Output.concat("rediss://:", token, "@", self.endpoint, ":", self.port.apply(str), "/0")
        )
        connection = aws.secretsmanager.Secret(
            f"{name}-connection",
            description=f"How to connect to the cache {name}",
            kms_key_id=key.arn,
            recovery_window_in_days=_recovery_days(args),
            opts=pulumi.ResourceOptions(parent=self, protect=protect),
        )
        stored = aws.secretsmanager.SecretVersion(
            f"{name}-connection",
            secret_id=connection.id,
            secret_string=pulumi.Output.secret(self.url.apply(lambda url: json.dumps({"url": url}))),
            opts=self._child(),
        )
        self.connection_secret_arn = pulumi.Output.all(connection.arn, stored.version_id).apply(
            lambda known: str(known[0])
        )
        self.register_outputs(
            {
                "endpoint": self.endpoint,
                "port": self.port,
                "url": self.url,
                "connectionSecretArn": self.connection_secret_arn,
            }
        )

    def _child(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self)

    def _token(self, key: aws.kms.Key, args: SemanticCacheArgs) -> pulumi.Output[str]:
        """Make the password once: later values are ignored, so that it stays until the secret is replaced."""
        protect = args.get("protect", True)
        secret = aws.secretsmanager.Secret(
            f"{self._name}-token",
            description=f"Password of the cache {self._name}",
            kms_key_id=key.arn,
            recovery_window_in_days=_recovery_days(args),
            opts=pulumi.ResourceOptions(parent=self, protect=protect),
        )
        version = aws.secretsmanager.SecretVersion(
            f"{self._name}-token",
            secret_id=secret.id,
            # 256 bits. Hexadecimal, because ElastiCache refuses most punctuation and URLs give meaning to the rest.
            secret_string=pulumi.Output.secret(secrets.token_hex(32)),
            opts=pulumi.ResourceOptions(parent=self, protect=protect, ignore_changes=["secretString"]),
        )
        return pulumi.Output.secret(version.secret_string.apply(lambda value: value or ""))

    def _replication_group(
        self,
        args: SemanticCacheArgs,
        key: aws.kms.Key,
        token: pulumi.Output[str],
        *,
        version: str,
        replicas: int,
        snapshots: int,
    ) -> aws.elasticache.ReplicationGroup:
        protect = args.get("protect", True)
        # Snapshot names are shared by everything in the account and region.
        final = f"{pulumi.get_project()}-{pulumi.get_stack()}-{self._name}-final"
        subnets = aws.elasticache.SubnetGroup(
            f"{self._name}-subnets", subnet_ids=args["subnet_ids"], opts=self._child()
        )
        parameters = aws.elasticache.ParameterGroup(
            f"{self._name}-parameters",
            family="valkey8",
            parameters=[{"name": "maxmemory-policy", "value": MEMORY_POLICY}],
            opts=self._child(),
        )
        security_group = aws.ec2.SecurityGroup(
            f"{self._name}-clients",
            description=f"Clients of the cache {self._name}",
            vpc_id=args["vpc_id"],
            tags={"Name": self._name},
            opts=self._child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-clients",
            description="Valkey over TLS from the cluster",
            security_group_id=security_group.id,
            referenced_security_group_id=args["client_security_group_id"],
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            opts=self._child(),
        )
        return aws.elasticache.ReplicationGroup(
            f"{self._name}-group",
            description=f"Response cache of the LLM gateway ({self._name})",
            engine="valkey",
            engine_version=version,
            node_type=args["node_type"],
            num_cache_clusters=replicas + 1,
            automatic_failover_enabled=replicas > 0,
            multi_az_enabled=replicas > 0,
            parameter_group_name=parameters.name,
            subnet_group_name=subnets.name,
            security_group_ids=[security_group.id],
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            at_rest_encryption_enabled=True,
            kms_key_id=key.arn,
            auth_token=token,
            snapshot_retention_limit=snapshots,
            final_snapshot_identifier=final if protect else None,
            apply_immediately=True,
            auto_minor_version_upgrade=True,
            opts=pulumi.ResourceOptions(parent=self, protect=protect),
        )


def _recovery_days(args: SemanticCacheArgs) -> int:
    """Return the days that a deleted secret can be brought back: 0 frees its name at once."""
    return 30 if args.get("protect", True) else 0
