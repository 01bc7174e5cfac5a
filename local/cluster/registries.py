"""The registries whose names the nodes know, and how each is sent to the local one."""

from local.addresses import ECR_HOST, HOST_IP
from local.ports import port

HOSTS = (
    ECR_HOST,
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "registry.k8s.io",
)
"""The hosts in image names. The local registry keeps the host as the first part of a repository's path."""


def hosts_toml(host: str) -> str:
    """containerd's `hosts.toml` that sends one registry's pulls to the local registry, and nowhere else."""
    mirror = f"http://{HOST_IP}:{port('registry')}/v2/{host}"
    return f'server = "{mirror}"\n[host."{mirror}"]\ncapabilities = ["pull", "resolve"]\noverride_path = true\n'
