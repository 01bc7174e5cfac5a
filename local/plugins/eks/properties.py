"""The inputs of the children, computed as the official plugin computes them. No resource is made here."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

CLUSTER_ROLE_ACTIONS = ("sts:AssumeRole", "sts:TagSession")
"""What EKS does with the cluster's role; the second is for EKS Auto Mode."""

CLUSTER_ROLE_POLICY = "AmazonEKSClusterPolicy"

DEFAULT_SCALING = {"desiredSize": 2, "minSize": 1, "maxSize": 2}

ROOT_DEVICE = "/dev/xvda"
"""The root volume of Amazon Linux."""
BOTTLEROCKET_DATA_DEVICE = "/dev/xvdb"
"""The volume with images and logs on Bottlerocket."""

VPC_CNI_SETTINGS: tuple[tuple[str, str, str | None], ...] = (
    ("nodePortSupport", "AWS_VPC_CNI_NODE_PORT_SUPPORT", None),
    ("customNetworkConfig", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", None),
    ("warmEniTarget", "WARM_ENI_TARGET", "1"),
    ("warmIpTarget", "WARM_IP_TARGET", None),
    ("warmPrefixTarget", "WARM_PREFIX_TARGET", None),
    ("enablePrefixDelegation", "ENABLE_PREFIX_DELEGATION", None),
    ("logLevel", "AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
    ("logFile", "AWS_VPC_K8S_CNI_LOG_FILE", "/host/var/log/aws-routed-eni/ipamd.log"),
    ("vethPrefix", "AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
    ("eniMtu", "AWS_VPC_ENI_MTU", "9001"),
    ("eniConfigLabelDef", "ENI_CONFIG_LABEL_DEF", None),
    ("enablePodEni", "ENABLE_POD_ENI", "false"),
    ("cniConfigureRpfilter", "AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER", None),
    ("cniCustomNetworkCfg", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false"),
    ("externalSnat", "AWS_VPC_K8S_CNI_EXTERNALSNAT", None),
    ("cniExternalSnat", "AWS_VPC_K8S_CNI_EXTERNALSNAT", "false"),
)
"""Option of `vpcCniOptions`, the variable of the add-on that it sets, and the variable's value without it.

Where two options set one variable, the last one given decides, else the default.
"""

VPC_CNI_FIXED = {
    "AWS_VPC_K8S_PLUGIN_LOG_LEVEL": "DEBUG",
    "AWS_VPC_K8S_PLUGIN_LOG_FILE": "/var/log/aws-routed-eni/plugin.log",
}


def assume_role_policy(service: str, actions: Sequence[str]) -> str:
    """The trust policy of a role that an AWS service assumes."""
    statement = {"Action": list(actions), "Effect": "Allow", "Principal": {"Service": [service]}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


def attachment_name(role: str, policy: str) -> str:
    """The Pulumi name of the attachment of an AWS-managed policy to a role component."""
    arn = f"arn:aws:iam::aws:policy/{policy}"
    return f"{role}-{hashlib.sha1(arn.encode(), usedforsecurity=False).hexdigest()[:8]}"


def tags(name: str, *given: Mapping[str, str] | None) -> dict[str, str]:
    """A `Name` tag and the given tags; later ones win."""
    merged = {"Name": name}
    for each in given:
        merged.update(each or {})
    return merged


def node_security_group_tags(name: str, cluster_name: str, *given: Mapping[str, str] | None) -> dict[str, str]:
    """The tags by which Kubernetes knows the nodes' security group."""
    return tags(name, {f"kubernetes.io/cluster/{cluster_name}": "owned"}, *given)


def network_config(service_range: str | None, ip_family: str | None) -> dict[str, str]:
    """`kubernetesNetworkConfig` of the cluster; a service range only goes with IPv4."""
    family = ip_family or "ipv4"
    config = {"ipFamily": family}
    if service_range and family == "ipv4":
        config["serviceIpv4Cidr"] = service_range
    return config


def scaling(config: Mapping[str, float | None] | None) -> dict[str, int]:
    """`scalingConfig` of a node group, with the plugin's defaults."""
    sizes = given(config or {})
    return {name: int(sizes.get(name, default)) for name, default in DEFAULT_SCALING.items()}


def metadata_options(*, require_tokens: bool) -> dict[str, str | int]:
    """The instance metadata settings of a node. Two hops, so that a pod in a container network still reaches it."""
    tokens = "required" if require_tokens else "optional"
    return {"httpTokens": tokens, "httpPutResponseHopLimit": 2, "httpEndpoint": "enabled"}


def data_device(ami_type: str | None) -> str:
    """The device that holds the images and logs of a node with this AMI type."""
    return BOTTLEROCKET_DATA_DEVICE if (ami_type or "").startswith("BOTTLEROCKET") else ROOT_DEVICE


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are set: a provider takes a null inside an object for a value."""
    return {name: value for name, value in values.items() if value is not None}


def addon_configuration(values: Mapping[str, Any] | None) -> str | None:
    """An add-on's configuration as JSON, its keys sorted so that it never differs without reason."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")) if values else None


def vpc_cni_configuration(options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the vpc-cni add-on: `configurationValues` over what the other options and defaults give."""
    environment = dict(VPC_CNI_FIXED)
    given: set[str] = set()
    for option, variable, default in VPC_CNI_SETTINGS:
        value = options.get(option)
        if value is not None:
            environment[variable] = _text(value)
            given.add(variable)
        elif default is not None and variable not in given:
            environment[variable] = default
    configuration: dict[str, Any] = dict(options.get("configurationValues") or {})
    if options.get("enableNetworkPolicy") is not None:
        configuration.setdefault("enableNetworkPolicy", _text(options["enableNetworkPolicy"]))
    start: dict[str, Any] = dict(configuration.get("init") or {})
    early_demux = _text(bool(options.get("disableTcpEarlyDemux")))
    configuration["env"] = {**environment, **(configuration.get("env") or {})}
    configuration["init"] = {**start, "env": {"DISABLE_TCP_EARLY_DEMUX": early_demux, **(start.get("env") or {})}}
    return configuration


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
