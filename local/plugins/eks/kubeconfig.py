"""The cluster's kubeconfig: the local control plane's where there is one, else the one that any EKS cluster has."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from local.errors import LocalError

VARIABLE = "LLM_SERVING_KUBECONFIG"
"""Names the local control plane's kubeconfig. It stands in for the emulated cluster's, which has no API server."""


def local_kubeconfig() -> dict[str, Any] | None:
    """The kubeconfig that `LLM_SERVING_KUBECONFIG` names; None where the variable isn't set.

    Raises LocalError where the file is missing or isn't a kubeconfig.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    try:
        content: Any = yaml.safe_load(Path(name).read_text())
    except OSError as error:
        raise LocalError(f"{VARIABLE} names {name}: {error.strerror}", "run `make up`") from None
    except yaml.YAMLError:
        content = None
    if not isinstance(content, dict) or "clusters" not in content:
        raise LocalError(f"{VARIABLE} names {name}, which is not a kubeconfig", "run `make up`")
    return content  # pyright: ignore[reportUnknownVariableType]


def eks_kubeconfig(
    *, name: str, arn: str, endpoint: str, certificate: str, credentials: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The kubeconfig of an EKS cluster, whose token the AWS CLI makes.

    `arn` gives the region, `certificate` is the cluster's authority in base64, and `credentials` may name a
    `roleArn` and a `profileName` for the AWS CLI.
    """
    region = arn.split(":")[3]
    arguments = ["--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"]
    for option, flag in (("roleArn", "--role"), ("profileName", "--profile")):
        if value := (credentials or {}).get(option):
            arguments += [flag, value]
    api_version = "client.authentication.k8s.io/v1beta1"
    execution = {
        "apiVersion": api_version,
        "command": "aws",
        "args": arguments,
        "env": [{"name": "KUBERNETES_EXEC_INFO", "value": f'{{"apiVersion": "{api_version}"}}'}],
    }
    server = {"server": endpoint, "certificate-authority-data": certificate}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": server}],
        "users": [{"name": "aws", "user": {"exec": execution}}],
        "contexts": [{"name": "aws", "context": {"cluster": "kubernetes", "user": "aws"}}],
        "current-context": "aws",
    }
