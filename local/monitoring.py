"""Finds the environment's Prometheus and its dashboards, where the program has put them into the cluster."""

import json
from dataclasses import dataclass
from typing import Any

from local.cluster.api import Api, ApiError
from local.cluster.objects import Json
from local.errors import LocalError

NAMESPACE = "monitoring"
PORT = 9090
_REMEDY = "make up brings the environment up; make status shows what is unwell"


@dataclass(frozen=True)
class Monitored:
    """What watches the environment."""

    url: str
    """Of Prometheus. Pods are reached from this machine by their own addresses."""
    dashboards: dict[str, dict[str, Any]]
    """Grafana's JSON by uid."""


def find() -> Monitored:
    """The running Prometheus and every dashboard. Raises LocalError where the cluster has none."""
    api = Api.admin(timeout=10)
    try:
        servers = api.list(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app.kubernetes.io/name=prometheus")
        maps = api.list("/api/v1/configmaps", labelSelector="grafana_dashboard")
    except ApiError as error:
        raise LocalError(str(error), _REMEDY) from None
    finally:
        api.close()
    ready = [server for server in servers if _is_ready(server)]
    if not ready:
        raise LocalError(f"no Prometheus is ready in the namespace {NAMESPACE}", _REMEDY)
    documents = [json.loads(text) for item in maps for text in item["data"].values()]
    return Monitored(f"http://{ready[0]['status']['podIP']}:{PORT}", {each["uid"]: each for each in documents})


def _is_ready(pod: Json) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
