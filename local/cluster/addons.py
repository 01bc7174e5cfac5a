"""What a fresh cluster needs before workloads come: DNS, custom resources, operators, rights."""

import base64
import hashlib
import json
import time
from pathlib import Path

import yaml

from llm_serving.observability import metrics
from local import toolchain
from local.addresses import CLUSTER_DNS_IP, HOST_IP, ISSUER_HOST, ISSUER_IP
from local.cluster import pki
from local.cluster.api import Api, ApiError
from local.cluster.control_plane import KUBELET_CLIENT
from local.cluster.objects import Json, name, section, sequence
from local.errors import LocalError
from local.ports import port


class _Loader(yaml.CSafeLoader):
    """Reads `=` as the text that it is, as Kubernetes does; in YAML 1.1 it has a meaning of its own."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: str(node.value))

COREDNS_IMAGE = "registry.k8s.io/coredns/coredns:v1.15.0"
_IMAGES = {
    "$COREDNS_IMAGE": COREDNS_IMAGE,
    "$OPERATOR_IMAGE": "quay.io/prometheus-operator/prometheus-operator:v0.85.0",
    "$RELOADER_IMAGE": "quay.io/prometheus-operator/prometheus-config-reloader:v0.85.0",
    "$KUBE_STATE_METRICS_IMAGE": "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0",
    "$KEDA_IMAGE": "ghcr.io/kedacore/keda:2.21.0",
    "$KEDA_ADAPTER_IMAGE": "ghcr.io/kedacore/keda-metrics-apiserver:2.21.0",
    "$LWS_IMAGE": "registry.k8s.io/lws/lws:v0.8.0",
    "$NODE_LABELS": metrics.NODE_LABEL_ALLOWLIST,
}
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RECORD = "/api/v1/namespaces/kube-system/configmaps/llm-serving-definitions"
_MANIFESTS = ("addons.yaml", "monitoring.yaml", "autoscaling.yaml", "leader-worker-sets.yaml")


def apply(api: Api) -> None:
    """Applies everything server-side; what is there already is left as it is. Raises LocalError where it is refused."""
    _apply_definitions(api)
    for manifest in (*manifests(), webhook()):
        _apply(api, manifest)


def manifests() -> list[Json]:
    """CoreDNS, what brings custom resources to life, and the API server's right to the kubelets."""
    text = "---\n".join(Path(__file__).with_name(file).read_text() for file in _MANIFESTS)
    for placeholder, value in {
        **_IMAGES,
        "$CLUSTER_DNS_IP": CLUSTER_DNS_IP,
        "$ISSUER_HOST": ISSUER_HOST,
        "$ISSUER_IP": ISSUER_IP,
        "$KUBELET_CLIENT": KUBELET_CLIENT,
    }.items():
        text = text.replace(placeholder, value)
    return list(yaml.safe_load_all(text))


def webhook() -> Json:
    """The Pod Identity webhook's configuration: as on EKS, pods are created without it where it does not answer."""
    authority = base64.b64encode(pki.authority("ca").certificate.read_bytes()).decode()
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "pod-identity-webhook"},
        "webhooks": [
            {
                "name": "pod-identity.eks.amazonaws.com",
                "clientConfig": {
                    "url": f"https://{HOST_IP}:{port('identity')}/mutate-pods",
                    "caBundle": authority,
                },
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "reinvocationPolicy": "IfNeeded",
                "timeoutSeconds": 10,
            }
        ],
    }


def _apply_definitions(api: Api) -> None:
    """The definitions of the custom resources that stacks may use.

    They are megabytes, so they are applied only where their text has changed or one of them is missing.
    """
    texts = toolchain.crds()
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
    applied = section(api.find(_RECORD), "data")
    if applied.get("digest") == digest and set(applied["names"].split()) <= api.names(_DEFINITIONS):
        return
    definitions = [document for text in texts.values() for document in parse(text)]
    for definition in definitions:
        _apply(api, definition)
    for definition in definitions:
        _wait_served(api, definition)
    record = {"digest": digest, "names": " ".join(map(name, definitions))}
    metadata = {"name": _RECORD.rpartition("/")[2], "namespace": "kube-system"}
    _apply(api, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": record})


def parse(text: str) -> list[Json]:
    """The documents of a YAML text, read as Kubernetes reads them."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document]


def _apply(api: Api, manifest: Json) -> None:
    try:
        api.apply(manifest)
    except ApiError as error:
        raise LocalError(f"{manifest['kind']} {manifest['metadata']['name']} was refused: {error}") from error


def _wait_served(api: Api, definition: Json, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    spec: Json = definition["spec"]
    version = next(item["name"] for item in spec["versions"] if item["served"])
    path = f"/apis/{spec['group']}/{version}"
    while spec["names"]["plural"] not in {item["name"] for item in sequence(api.find(path), "resources")}:
        if time.monotonic() > deadline:
            raise LocalError(f"the custom resource {name(definition)} was not served within {seconds:.0f} s")
        time.sleep(0.1)
