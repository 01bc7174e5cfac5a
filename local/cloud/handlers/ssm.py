"""SSM: the public parameters that name the newest EKS node images.

They are answered, not stored: on AWS too they belong to no account, and DescribeParameters doesn't list them.
"""

import json
from typing import Any

from local.cloud import emulator
from local.cloud.emulator import Call, Response, reply
from local.cloud.handlers import eks_catalog

ROOT = "/aws/service/eks/optimized-ami"
VARIANTS = {"x86_64": ("standard", "nvidia", "neuron"), "arm64": ("standard", "nvidia")}
"""Variants of the Amazon Linux 2023 image, for each architecture."""
PUBLISHED = 1_794_268_800.0
"""When the images were published, in seconds since the epoch."""


def before(call: Call) -> Response | None:
    """Answers for public parameters; others are MiniStack's."""
    match call.operation:
        case "GetParameter" if call.json.get("Name") in (public := parameters(emulator.region())):
            return reply({"Parameter": public[call.json["Name"]]})
        case "GetParameters":
            return _get_parameters(call)
        case "GetParametersByPath" if call.json.get("Path", "").startswith(ROOT):
            path = call.json["Path"].rstrip("/") + "/"
            found = [known for name, known in parameters(emulator.region()).items() if name.startswith(path)]
            return reply({"Parameters": found})
        case _:
            return None


def parameters(region: str) -> dict[str, dict[str, Any]]:
    """Every public parameter of a region, by name."""
    found: dict[str, str] = {}
    for release in eks_catalog.RELEASES:
        for architecture, variants in VARIANTS.items():
            for variant in variants:
                path = f"{ROOT}/{release.version}/amazon-linux-2023/{architecture}/{variant}/recommended"
                image = eks_catalog.image_id(region, release.version, architecture, variant)
                version = eks_catalog.release_version(release.version)
                name = f"amazon-eks-node-al2023-{architecture}-{variant}-{release.version}-v{eks_catalog.IMAGE_DATE}"
                found[f"{path}/image_id"] = image
                found[f"{path}/release_version"] = version
                found[f"{path}/image_name"] = name
                document = {"image_id": image, "image_name": name, "release_version": version, "schema_version": "2"}
                found[path] = json.dumps(document)
    return {name: _parameter(region, name, value) for name, value in found.items()}


def _parameter(region: str, name: str, value: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Type": "String",
        "Value": value,
        "Version": 1,
        "LastModifiedDate": PUBLISHED,
        "ARN": f"arn:aws:ssm:{region}::parameter{name}",
        "DataType": "aws:ec2:image" if name.endswith("/image_id") else "text",
    }


def _get_parameters(call: Call) -> Response | None:
    names: list[str] = call.json.get("Names", [])
    public = parameters(emulator.region())
    ours = [public[name] for name in names if name in public]
    if not ours:
        return None
    theirs = [name for name in names if name not in public]
    _, _, body = emulator.service("ssm")._get_parameters({**call.json, "Names": theirs})
    found = json.loads(body)
    return reply({**found, "Parameters": [*ours, *found.get("Parameters", [])]})
