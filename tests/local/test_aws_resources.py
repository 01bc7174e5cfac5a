"""Every AWS resource type that the project uses, on the real engine and the local cloud.

Created, read back with no difference, changed, imported, deleted. The types are found in the project's source, so a
new one must be added to `aws_resources_program.py` before this passes.
"""

import ast
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pulumi
import pulumi_aws
import pytest

from local.paths import ROOT
from local.processes import start_time
from tests.cloud_harness import Cloud
from tests.program_harness import ProgramStack, variables

pytestmark = pytest.mark.local

PROGRAM = Path(__file__).with_name("aws_resources_program.py")
SOURCES = ("components", "infra", "local/plugins/eks")

NO_EFFECT = {
    "aws:apigateway/integration:Integration.responseTransferMode",
    "aws:apigateway/restApi:RestApi.endpointAccessMode",
    "aws:apigateway/restApi:RestApi.securityPolicy",
    "aws:eks/cluster:Cluster.deletionProtection",
}
"""What the program sets and the Terraform provider is too old for: each must be told once."""

KEPT_OTHERWISE = {
    ("aws:elasticache/replicationGroup:ReplicationGroup", "port"),
    ("aws:elasticache/user:User", "authenticationMode"),
    ("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", "tagsAll"),
}
"""Properties that MiniStack doesn't give back as it was given them. Nothing else may differ."""


def used_types() -> Iterator[str]:
    """The type tokens of all AWS resources that the project's source makes: `aws.ec2.Vpc(...)` and the like."""
    for path in (path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(value=ast.Name("aws"), attr=module), attr=name)):
                    made = getattr(getattr(pulumi_aws, module), name)
                    if isinstance(made, type) and issubclass(made, pulumi.CustomResource):
                        yield str(made.pulumi_type)  # type: ignore[reportAttributeAccessIssue]
                case _:
                    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "Pulumi.yaml").write_text("name: resources\nruntime: python\n")
    shutil.copy(PROGRAM, folder / "__main__.py")
    return folder


@pytest.fixture(scope="module")
def stack(folder: Path, cloud: Cloud) -> ProgramStack:
    stack = ProgramStack(folder, variables(folder / "state", cloud.variables()))
    stack.run("stack", "init", "test")
    return stack


@pytest.fixture(scope="module", autouse=True)
def said(stack: ProgramStack) -> str:
    """What the engine said when it made everything."""
    return stack.up()


def changes(stack: ProgramStack) -> set[tuple[str, str]]:
    """The type and property of everything that a preview would change, but for what is known."""
    found = {(kind, path.partition(".")[0].partition("[")[0]) for kind, path in stack.differences()}
    return found - KEPT_OTHERWISE


def test_every_type_that_the_project_uses_is_made(stack: ProgramStack, said: str) -> None:
    made = {resource["type"] for resource in stack.resources()}
    assert set(used_types()) - made == set()


def test_what_has_no_effect_is_told(said: str) -> None:
    summary = said.partition("Diagnostics:")[2]
    told = {line.split("warning: ")[1].split()[0] for line in summary.splitlines() if "warning: " in line}
    assert told == NO_EFFECT


def test_outputs_have_the_sdks_shape(stack: ProgramStack) -> None:
    outputs = stack.outputs()
    assert outputs["account"] == "000000000000"
    assert (outputs["region"], outputs["vpcRegion"], outputs["partition"]) == ("us-east-1", "us-east-1", "aws")
    assert outputs["zones"] == ["us-east-1a", "us-east-1b"]
    assert outputs["vpcRanges"] == "10.0.0.0/16"
    assert outputs["clusterVersion"] == "1.33"
    assert outputs["nodes"] == 1
    assert outputs["certificate"]
    assert len(outputs["apiKey"]) >= 20


def test_names_keep_to_the_rules_of_aws(stack: ProgramStack) -> None:
    outputs = stack.outputs()
    assert outputs["bucket"].startswith("models-")
    assert len(outputs["balancer"]) == 32


def test_secrets_are_not_in_the_state(stack: ProgramStack) -> None:
    assert "canary-" not in stack.run("stack", "export")


def test_nothing_differs_afterwards(stack: ProgramStack) -> None:
    assert changes(stack) == set()


def test_a_change_touches_what_it_is_about(stack: ProgramStack) -> None:
    stack.run("config", "set", "nodes", "2")
    group = next(each["urn"] for each in stack.resources() if each["type"] == "aws:eks/nodeGroup:NodeGroup")
    preview = json.loads(stack.run("preview", "--json", "--target", group))
    changed = [step for step in preview["steps"] if step["op"] != "same"]
    assert [(step["op"], list(step["detailedDiff"])) for step in changed] == [("update", ["scalingConfig.desiredSize"])]
    stack.run("up", "--yes", "--skip-preview", "--target", group)
    assert stack.outputs()["nodes"] == 2


def test_nothing_differs_after_a_refresh(stack: ProgramStack) -> None:
    stack.run("refresh", "--yes", "--skip-preview")
    assert changes(stack) == set()


def test_a_resource_can_be_imported(stack: ProgramStack, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: imported\nruntime: python\nconfig: {'aws:region': us-east-1}\n")
    (tmp_path / "__main__.py").touch()
    other = ProgramStack(tmp_path, stack.environment)
    other.run("stack", "init", "test")
    text = other.run("import", "aws:ec2/vpc:Vpc", "net", stack.outputs()["vpcId"], "--yes", "--protect=false")
    assert "warning" not in text
    assert 'cidrBlock = "10.0.0.0/16"' in text
    (imported,) = (each for each in other.resources() if each["type"] == "aws:ec2/vpc:Vpc")
    assert imported["inputs"]["enableDnsHostnames"] is True


def test_everything_is_deleted(stack: ProgramStack, cloud: Cloud) -> None:
    stack.destroy()
    assert cloud.client("s3").list_buckets()["Buckets"] == []
    assert cloud.client("eks").list_clusters()["clusters"] == []
    assert cloud.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    assert cloud.client("apigateway").get_rest_apis()["items"] == []
    assert [vpc for vpc in cloud.client("ec2").describe_vpcs()["Vpcs"] if not vpc["IsDefault"]] == []


def test_no_process_of_a_plugin_is_left(stack: ProgramStack) -> None:
    """Not even of one whose engine was killed."""
    process = subprocess.Popen(
        ["pulumi", "--non-interactive", "preview"],
        cwd=stack.folder, env=stack.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not _programs(process.pid):
        assert time.monotonic() < deadline, "the plugin did not start within 60 s"
        time.sleep(0.1)
    programs = _programs(process.pid)
    process.kill()
    process.wait()
    while any(start_time(pid) is not None for pid in programs):
        assert time.monotonic() < deadline, f"{programs} outlived the engine"
        time.sleep(0.1)


def _programs(parent: int) -> set[int]:
    """The processes below a parent, once the Terraform provider is among them."""
    found = {parent}
    names: set[str] = set()
    for _ in range(4):  # engine, plugin, bridge, Terraform provider
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) in found:
                    found.add(int(entry.name))
                    names.add((entry / "comm").read_text().strip())
            except OSError:
                continue
    return found - {parent} if any(name.startswith("terraform-prov") for name in names) else set()
