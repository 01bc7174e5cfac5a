"""EKS: updates of clusters and node groups in place, versions of Kubernetes and of add-ons, and where the cluster is.

Updates are done when the call returns, so DescribeUpdate says Successful at once; the nodes follow by themselves, as
`local.cluster`'s controller reads the node groups.
"""

import base64
import datetime as dt
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml

from local.cloud import authority, emulator, stores
from local.cloud.emulator import Call, Response, refusal, reply
from local.cloud.handlers import eks_catalog

KUBECONFIG = "LLM_SERVING_KUBECONFIG"
"""Environment variable with the admin kubeconfig of the local control plane, once there is one."""

NODE_GROUP_SETTINGS = ("updateConfig", "nodeRepairConfig", "warmPoolConfig")
CLUSTER_SETTINGS = {
    "logging": "LoggingUpdate",
    "upgradePolicy": "UpgradePolicyUpdate",
    "zonalShiftConfig": "ZonalShiftConfigUpdate",
    "computeConfig": "AutoModeUpdate",
    "storageConfig": "AutoModeUpdate",
    "remoteNetworkConfig": "RemoteNetworkConfigUpdate",
    "deletionProtection": "DeletionProtectionUpdate",
    "controlPlaneScalingConfig": "ControlPlaneScalingConfigUpdate",
}
"""What UpdateClusterConfig replaces whole, and the type of the update that this makes."""


def before(call: Call) -> Response | None:
    """Answers what MiniStack has no route for."""
    answer = _ANSWERS.get(call.operation)
    return answer(call) if answer else None


def after(call: Call, response: Response) -> Response:
    """Completes the records that MiniStack made, and says where the local control plane is."""
    match call.operation:
        case "CreateCluster":
            cluster = _clusters()[call.json["name"]]
            _complete_cluster(cluster, call.json)
            return _shown("cluster", cluster)
        case "DescribeCluster":
            return _shown("cluster", {**_clusters()[call.parts[1]], **_control_plane()})
        case "DeleteCluster":
            _delete_security_group(json_body(response)["cluster"])
        case "CreateNodegroup":
            group = _node_groups()[f"{call.parts[1]}/{call.json['nodegroupName']}"]
            _complete_node_group(group, call.json)
            return _shown("nodegroup", group)
        case _:
            pass
    return response


def json_body(response: Response) -> dict[str, Any]:
    """The body of a JSON answer."""
    return cast("dict[str, Any]", json.loads(response[2]))


def _clusters() -> Any:
    return emulator.service("eks")._clusters


def _node_groups() -> Any:
    return emulator.service("eks")._nodegroups


def _shown(kind: str, record: dict[str, Any]) -> Response:
    return reply({kind: {key: value for key, value in record.items() if not key.startswith("_")}})


def _not_found(what: str) -> Response:
    return refusal(404, "ResourceNotFoundException", what)


# Clusters


def _complete_cluster(cluster: dict[str, Any], asked: dict[str, Any]) -> None:
    """Sets what AWS derives at creation and MiniStack leaves out."""
    network = cluster["resourcesVpcConfig"]
    subnets = emulator.service("ec2")._subnets
    homes = {subnets[subnet]["VpcId"] for subnet in network["subnetIds"] if subnet in subnets}
    if len(homes) == 1:
        network["vpcId"] = homes.pop()
        network["clusterSecurityGroupId"] = _create_security_group(cluster["name"], network["vpcId"])
    cluster["version"] = asked.get("version", eks_catalog.DEFAULT.version)
    cluster["accessConfig"] = {"authenticationMode": "CONFIG_MAP", **asked.get("accessConfig", {})}
    cluster.setdefault("health", {"issues": []})
    cluster["upgradePolicy"] = asked.get("upgradePolicy", {"supportType": "EXTENDED"})
    cluster["deletionProtection"] = asked.get("deletionProtection", False)
    for setting in ("zonalShiftConfig", "computeConfig", "storageConfig", "remoteNetworkConfig"):
        if setting in asked:
            cluster[setting] = asked[setting]


def _create_security_group(cluster: str, vpc: str) -> str:
    """The security group that EKS makes for a cluster's control plane and managed nodes."""
    name = f"eks-cluster-sg-{cluster}-{uuid.uuid4().int % 10**9}"
    description = "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes"
    ec2 = emulator.service("ec2")
    ec2._create_security_group({"GroupName": [name], "GroupDescription": [description], "VpcId": [vpc]})
    groups: Any = ec2._security_groups
    return cast("str", next(group for group, record in groups.items() if record["GroupName"] == name))


def _delete_security_group(cluster: dict[str, Any]) -> None:
    emulator.service("ec2")._security_groups.pop(cluster["resourcesVpcConfig"]["clusterSecurityGroupId"], None)


def _control_plane() -> dict[str, Any]:
    """The local API server's address and certificate authority; before it is set up, just a well-formed certificate."""
    try:
        config = yaml.safe_load(Path(os.environ[KUBECONFIG]).read_text())
        server = config["clusters"][0]["cluster"]
        certificate: str = server.get("certificate-authority-data") or _encoded(Path(server["certificate-authority"]))
    except (KeyError, OSError, TypeError):
        return {"certificateAuthority": {"data": _encoded(authority.ca_certificate())}}
    return {"endpoint": server["server"], "certificateAuthority": {"data": certificate}}


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _of_cluster(call: Call) -> Response:
    cluster = _clusters().get(call.parts[1])
    if cluster is None:
        return _not_found(f"No cluster found for name: {call.parts[1]}.")
    match call.operation:
        case "UpdateClusterVersion":
            return _update_cluster_version(cluster, call.json)
        case "UpdateClusterConfig":
            return _update_cluster_config(cluster, call.json)
        case "ListUpdates":
            group = call.value("nodegroupName")
            ids = [key.split("/")[1] for key, update in stores.store("eks_updates").items()
                   if key.startswith(f"{cluster['name']}/") and update["_nodegroup"] == group]  # fmt: skip
            return reply({"updateIds": ids})
        case _:
            update = stores.store("eks_updates").get(f"{cluster['name']}/{call.parts[3]}")
            return _shown("update", update) if update else _not_found(f"No update found for ID: {call.parts[3]}")


def _record_update(cluster: str, kind: str, params: dict[str, Any], node_group: str = "") -> Response:
    update = {
        "id": str(uuid.uuid4()),
        "status": "Successful",
        "type": kind,
        "params": [
            {"type": name, "value": value if isinstance(value, str) else json.dumps(value)}
            for name, value in params.items()
        ],
        "createdAt": time.time(),
        "errors": [],
        "_nodegroup": node_group,
    }
    stores.store("eks_updates")[f"{cluster}/{update['id']}"] = update
    return _shown("update", update)


def _update_cluster_version(cluster: dict[str, Any], asked: dict[str, Any]) -> Response:
    version: str = asked.get("version", "")
    now, wanted = (_minor(text) for text in (cluster["version"], version))
    if wanted is None or eks_catalog.release(version) is None:
        return refusal(400, "InvalidParameterException", f"unsupported Kubernetes version {version}")
    if now is not None and wanted not in {now, now + 1}:
        problem = f"Unsupported Kubernetes minor version update from {cluster['version']} to {version}"
        return refusal(400, "InvalidParameterException", problem)
    cluster["version"] = version
    return _record_update(cluster["name"], "VersionUpdate", {"Version": version, "PlatformVersion": "eks.9"})


def _minor(version: str) -> int | None:
    major, _, minor = version.partition(".")
    return int(minor) if major == "1" and minor.isdigit() else None


def _update_cluster_config(cluster: dict[str, Any], asked: dict[str, Any]) -> Response:
    kind, params = "ConfigUpdate", dict[str, Any]()
    for setting, update in CLUSTER_SETTINGS.items():
        if setting in asked:
            cluster[setting] = asked[setting]
            kind, params[_capital(setting)] = update, asked[setting]
    if network := asked.get("resourcesVpcConfig"):
        cluster["resourcesVpcConfig"].update(network)
        moved = {"subnetIds", "securityGroupIds"} & set(network)
        kind = "VpcConfigUpdate" if moved else "EndpointAccessUpdate"
        params |= {_capital(setting): value for setting, value in network.items()}
    if access := asked.get("accessConfig"):
        cluster["accessConfig"].update(access)
        kind, params["AuthenticationMode"] = "AccessConfigUpdate", access["authenticationMode"]
    if balancing := asked.get("kubernetesNetworkConfig", {}).get("elasticLoadBalancing"):
        cluster["kubernetesNetworkConfig"]["elasticLoadBalancing"] = balancing
    if not params:
        return refusal(400, "InvalidParameterException", "No changes needed for the provided config")
    return _record_update(cluster["name"], kind, params)


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


# Node groups


def _complete_node_group(group: dict[str, Any], asked: dict[str, Any]) -> None:
    """Sets what AWS derives at creation and MiniStack leaves out."""
    cluster_version = _clusters()[group["clusterName"]]["version"]
    group["version"] = asked.get("version", cluster_version)
    group["releaseVersion"] = asked.get("releaseVersion") or eks_catalog.release_version(group["version"])
    group["amiType"] = asked.get("amiType", "AL2023_x86_64_STANDARD")
    group["updateConfig"] = asked.get("updateConfig", {"maxUnavailable": 1})
    for setting in ("nodeRepairConfig", "remoteAccess", "warmPoolConfig"):
        if setting in asked:
            group[setting] = asked[setting]
    if "launchTemplate" in asked:
        group["launchTemplate"] = _launch_template(asked["launchTemplate"])
        # The template says them, or the defaults of AWS do; the group's record then has neither.
        for setting in {"diskSize", "instanceTypes"} - set(asked):
            group.pop(setting, None)


def _launch_template(asked: dict[str, str]) -> dict[str, str]:
    """A launch template as EKS shows it: id, name and a version number."""
    templates: Any = emulator.service("ec2")._launch_templates
    for record in templates.values():
        if asked.get("id") == record["LaunchTemplateId"] or asked.get("name") == record["LaunchTemplateName"]:
            default = str(record.get("DefaultVersionNumber", 1))
            latest = str(record.get("LatestVersionNumber", 1))
            version = {"$Latest": latest, "$Default": default}.get(asked.get("version", "$Default"))
            return {
                "id": record["LaunchTemplateId"],
                "name": record["LaunchTemplateName"],
                "version": version or asked["version"],
            }
    return dict(asked)


def _of_node_group(call: Call) -> Response:
    cluster, name = call.parts[1], call.parts[3]
    group = _node_groups().get(f"{cluster}/{name}")
    if group is None:
        return _not_found(f"No node group found for name: {name}.")
    group["modifiedAt"] = time.time()
    if call.operation == "UpdateNodegroupVersion":
        return _update_node_group_version(group, call.json)
    return _update_node_group_config(group, call.json)


def _update_node_group_version(group: dict[str, Any], asked: dict[str, Any]) -> Response:
    cluster_version = _clusters()[group["clusterName"]]["version"]
    version = asked.get("version") or ".".join(asked.get("releaseVersion", cluster_version).split(".")[:2])
    if version != cluster_version and version != group["version"]:
        problem = f"Node group version {version} must be the cluster's version, {cluster_version}"
        return refusal(400, "InvalidParameterException", problem)
    group["version"] = version
    group["releaseVersion"] = asked.get("releaseVersion") or eks_catalog.release_version(version)
    if "launchTemplate" in asked:
        group["launchTemplate"] = _launch_template(asked["launchTemplate"])
    params = {"Version": version, "ReleaseVersion": group["releaseVersion"]}
    return _record_update(group["clusterName"], "VersionUpdate", params, group["nodegroupName"])


def _update_node_group_config(group: dict[str, Any], asked: dict[str, Any]) -> Response:
    params: dict[str, Any] = {}
    if scaling := asked.get("scalingConfig"):
        wanted = {**group["scalingConfig"], **scaling}
        if not wanted["minSize"] <= wanted["desiredSize"] <= wanted["maxSize"]:
            problem = (
                f"desired capacity {wanted['desiredSize']} must be between minSize {wanted['minSize']} "
                f"and maxSize {wanted['maxSize']}"
            )
            return refusal(400, "InvalidParameterException", problem)
        group["scalingConfig"] = wanted
        params |= {_capital(setting): str(value) for setting, value in scaling.items()}
    if labels := asked.get("labels"):
        removed = set(labels.get("removeLabels", ()))
        kept = {key: value for key, value in group["labels"].items() if key not in removed}
        group["labels"] = {**kept, **labels.get("addOrUpdateLabels", {})}
        params |= {
            "LabelsToAdd": labels.get("addOrUpdateLabels", {}),
            "LabelsToRemove": labels.get("removeLabels", []),
        }
    if taints := asked.get("taints"):
        changed = [*taints.get("removeTaints", ()), *taints.get("addOrUpdateTaints", ())]
        gone = {(taint["key"], taint["effect"]) for taint in changed}
        kept = [taint for taint in group["taints"] if (taint["key"], taint["effect"]) not in gone]
        group["taints"] = [*kept, *taints.get("addOrUpdateTaints", ())]
        params |= {"TaintsToAdd": taints.get("addOrUpdateTaints", []), "TaintsToRemove": taints.get("removeTaints", [])}
    for setting in NODE_GROUP_SETTINGS:
        if setting in asked:
            group[setting] = asked[setting]
            params |= {_capital(name): str(value) for name, value in asked[setting].items()}
    return _record_update(group["clusterName"], "ConfigUpdate", params, group["nodegroupName"])


# Versions


def _describe_addon_versions(call: Call) -> Response:
    names = [call.value("addonName")] if call.value("addonName") else list(eks_catalog.ADDONS)
    if unknown := [name for name in names if name not in eks_catalog.ADDONS]:
        return _not_found(f"Addon {unknown[0]} specified is not supported")
    addons = [eks_catalog.addon(name, call.value("kubernetesVersion") or None) for name in names]
    types, owners = call.values("types"), call.values("owners")
    return reply({
        "addons": [
            found for found in addons
            if found["addonVersions"]
            and (not types or found["type"] in types)
            and (not owners or found["owner"] in owners)
        ]
    })  # fmt: skip


def _describe_addon_configuration(call: Call) -> Response:
    name, version = call.value("addonName"), call.value("addonVersion")
    if not any(version in eks_catalog.addon_versions(name, known.version) for known in eks_catalog.RELEASES):
        return _not_found(f"Addon {name} version {version} specified is not supported")
    schema = {"$schema": "http://json-schema.org/draft-06/schema#", "type": "object"}
    body = {"addonName": name, "addonVersion": version, "configurationSchema": json.dumps(schema)}
    return reply({**body, "podIdentityConfiguration": []})


def _describe_cluster_versions(call: Call) -> Response:
    today = dt.datetime.now(dt.UTC).date()
    found = [eks_catalog.cluster_version(known, today) for known in reversed(eks_catalog.RELEASES)]
    if wanted := call.values("clusterVersions"):
        found = [entry for entry in found if entry["clusterVersion"] in wanted]
    if call.value("defaultOnly") == "true":
        found = [entry for entry in found if entry["defaultVersion"]]
    if status := call.value("versionStatus") or call.value("status").upper().replace("-", "_"):
        found = [entry for entry in found if entry["versionStatus"] == status]
    return reply({"clusterVersions": found})


_ANSWERS: dict[str, Callable[[Call], Response]] = {
    "DescribeAddonVersions": _describe_addon_versions,
    "DescribeAddonConfiguration": _describe_addon_configuration,
    "DescribeClusterVersions": _describe_cluster_versions,
    "UpdateClusterConfig": _of_cluster,
    "UpdateClusterVersion": _of_cluster,
    "DescribeUpdate": _of_cluster,
    "ListUpdates": _of_cluster,
    "UpdateNodegroupConfig": _of_node_group,
    "UpdateNodegroupVersion": _of_node_group,
}
