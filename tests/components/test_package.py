"""The package as other programs see it: what it exports, and the schema of its plugin."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest
from pulumi.provider.experimental.component import ComponentProvider

import llm_serving

COMPONENTS = Path(llm_serving.__file__).parents[1]


def components() -> list[type[pulumi.ComponentResource]]:
    exported = [cast(object, getattr(llm_serving, name)) for name in llm_serving.__all__]
    return [each for each in exported if isinstance(each, type) and issubclass(each, pulumi.ComponentResource)]


def schema() -> dict[str, Any]:
    return json.loads(cast(str, ComponentProvider(components(), "llm-serving", None, "0.1.0").schema))


def test_exports() -> None:
    assert llm_serving.__all__ == sorted(llm_serving.__all__)
    for component in components():
        assert f"{component.__name__}Args" in llm_serving.__all__


def test_plugin_serves_every_component() -> None:
    main = (COMPONENTS / "__main__.py").read_text()
    for component in components():
        assert len(re.findall(rf"\b{component.__name__}\b", main)) == 2, component
    assert sorted(schema()["resources"]) == sorted(f"llm-serving:index:{each.__name__}" for each in components())


def test_everything_is_described() -> None:
    found = schema()
    for token, resource in found["resources"].items():
        assert resource["description"], token
        for name, entry in {**resource["inputProperties"], **resource["properties"]}.items():
            assert entry.get("description"), f"{token}.{name}"
    for token, kind in found["types"].items():
        for name, entry in kind["properties"].items():
            assert entry.get("description"), f"{token}.{name}"


def test_required_inputs_are_few() -> None:
    required = {
        token.rpartition(":")[2]: each.get("requiredInputs", []) for token, each in schema()["resources"].items()
    }
    assert required == {
        "ApiGateway": ["loadBalancerArn", "loadBalancerDnsName"],
        "Autoscaling": [],
        "EmbeddingService": ["image", "model", "namespace"],
        "GpuAgents": ["dcgmExporterImage"],
        "GpuCluster": ["clusterName", "subnetIds", "systemPool", "version", "vpcId"],
        "ImageRepositories": [],
        "InferenceService": [
            "bucketArn",
            "bucketKeyArn",
            "bucketName",
            "clusterName",
            "image",
            "loaderImage",
            "maxInputTokens",
            "maxTotalTokens",
            "model",
            "namespace",
            "pool",
            "revision",
            "weightGb",
        ],
        "LeaderWorkerSets": [],
        "LlmGateway": ["cacheUrl", "clusterSecurityGroupId", "image", "models", "namespace", "subnetIds", "vpcId"],
        "Logging": ["clusterName"],
        "ModelBucket": [],
        "Monitoring": ["clusterName", "models", "pools"],
        "Network": [],
        "NodeAutoscaling": ["clusterName"],
        "SemanticCache": ["clientSecurityGroupId", "nodeType", "subnetIds", "vpcId"],
    }


def test_importing_the_package_imports_no_pulumi() -> None:
    program = "import sys, llm_serving.registry.push; sys.exit('pulumi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'llm_serving' has no attribute 'Nothing'"):
        getattr(llm_serving, "Nothing")  # noqa: B009  the type checker knows that it isn't there


def test_what_the_package_imports_is_declared() -> None:
    """Elsewhere it is installed without what this repository has besides."""
    declared = tomllib.loads((COMPONENTS / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=!~\[; ]", each)[0].replace("_", "-") for each in declared}
    assert {_distribution(module) for module in _imported()} - names == set()


def _imported() -> set[str]:
    """The top-level modules, not Python's own, that the package's modules import."""
    found: set[str] = set()
    for path in (COMPONENTS / "llm_serving").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found |= {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module=str(module), level=0):
                    found.add(module.partition(".")[0])
                case _:
                    pass
    return found - sys.stdlib_module_names - {"llm_serving"}


def _distribution(module: str) -> str:
    """The distribution that a module comes from; boto3 brings its core."""
    names = packages_distributions()[module]
    return "boto3" if names == ["botocore"] else names[0].replace("_", "-")
