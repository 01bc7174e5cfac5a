"""The real Pulumi engine with our language host, installation and EKS provider. `echo_provider.py` stands for AWS."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from local import paths, plugins
from local.plugins import installation
from local.plugins.interpreter import version_of

pytestmark = pytest.mark.local

ECHO = Path(__file__).with_name("echo_provider.py")
STACK = "test"
NOISE = ("Traceback", "warning:", "KeyboardInterrupt", "exited prematurely")
"""What no operation may print."""


def check_quiet(text: str) -> None:
    assert not [word for word in NOISE if word in text], text


@dataclass
class Project:
    """A Pulumi project in a folder of its own, with one stack."""

    folder: Path
    environment: dict[str, str]

    def program(self, text: str) -> None:
        (self.folder / "__main__.py").write_text(dedent(text))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, succeeds: bool = True, quiet: bool = True) -> str:
        process = self.start(*arguments)
        text, _ = process.communicate(timeout=120)
        assert (process.returncode == 0) == succeeds, text
        if quiet:
            check_quiet(text)
        return text

    def up(self, *flags: str, succeeds: bool = True) -> str:
        return self.run("up", "--yes", "--skip-preview", *flags, succeeds=succeeds)

    def outputs(self) -> dict[str, Any]:
        return json.loads(self.run("stack", "output", "--json", "--show-secrets"))

    def resources(self) -> dict[str, dict[str, Any]]:
        """The state's resources by name."""
        state: dict[str, Any] = json.loads(self.run("stack", "export"))
        resources: list[dict[str, Any]] = state["deployment"].get("resources", [])
        return {each["urn"].split("::", 2)[2]: each for each in resources}


Make = Callable[[str], Project]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `plugins.install` prepares, with echo providers in the place of AWS and Kubernetes."""
    with pytest.MonkeyPatch.context() as patch:
        state = tmp_path_factory.mktemp("state")
        patch.setattr(paths, "STATE", state)
        patch.setattr(installation, "STATE", state)
        variables = plugins.install()
    for name in ("aws", "kubernetes"):
        version = version_of(f"pulumi-{name}")
        program = state / f"pulumi/home/plugins/resource-{name}-v{version}/pulumi-resource-{name}"
        program.unlink()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(ECHO))} {version} "$@"\n')
        program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "LLM_SERVING_"))}
    return {**kept, **variables}


@pytest.fixture
def make(tmp_path: Path, environment: dict[str, str]) -> Make:
    """Makes a project with a program; the project's name is the test folder's, so that stacks don't meet."""

    def project(program: str) -> Project:
        name = f"engine-{time.monotonic_ns()}"
        (tmp_path / "Pulumi.yaml").write_text(f"name: {name}\nruntime: python\n")
        made = Project(tmp_path, environment)
        made.program(program)
        made.run("stack", "init", STACK)
        return made

    return project


COMPONENTS = """
    import sys
    import pulumi

    class Thing(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("test:index:Thing", name, {}, opts)
            self.register_outputs({"name": name})

    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    parent = Thing("parent")
    Thing("child", pulumi.ResourceOptions(parent=parent))
    pulumi.export("plain", pulumi.Config().get("size"))
    pulumi.export("hidden", pulumi.Output.secret("s3cr3t"))
"""


class TestLanguageHost:
    def test_a_stacks_life(self, make: Make):
        project = make(COMPONENTS)
        project.run("config", "set", "size", "small")
        text = project.up()
        assert "said on stdout" in text
        assert "said on stderr" in text
        assert "+ 3 created" in text
        assert project.outputs() == {"plain": "small", "hidden": "s3cr3t"}
        assert "s3cr3t" not in project.run("stack", "export")
        project.run("preview", "--expect-no-changes")
        project.up("--expect-no-changes")
        project.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
        assert "- 3 deleted" in project.run("destroy", "--yes", "--skip-preview")
        assert project.resources() == {}

    def test_about_names_the_python(self, make: Make):
        assert f"executable='{sys.executable}'" in make(COMPONENTS).run("about")

    def test_stack_reference(self, make: Make):
        project = make(COMPONENTS)
        project.run("config", "set", "size", "small")
        project.up()
        name = project.run("stack", "--show-name").strip()
        project.run("stack", "init", "second")
        reference = f"organization/{{pulumi.get_project()}}/{name}"
        project.program(f"""
            import pulumi
            other = pulumi.StackReference(f"{reference}")
            pulumi.export("copied", other.require_output("plain"))
        """)
        project.up()
        assert project.outputs() == {"copied": "small"}

    def test_exception_shows_the_programs_own_lines(self, make: Make):
        project = make("def fail():\n    raise ValueError('boom')\n\nfail()\n")
        text = project.run("up", "--yes", "--skip-preview", succeeds=False, quiet=False)
        assert "ValueError: boom" in text
        assert text.count('File "') == 2  # the two frames of the program, none of the host
        assert "exit code" not in text

    def test_run_error_is_one_line(self, make: Make):
        text = make("import pulumi\nraise pulumi.RunError('the settings are wrong')\n").up(succeeds=False)
        assert text.count("error:") == 2  # as it comes, and in the summary
        assert "error: the settings are wrong" in text

    def test_exit_status(self, make: Make):
        assert "non-zero exit code: 7" in make("import os\nos._exit(7)\n").up(succeeds=False)

    def test_missing_virtual_environment(self, make: Make):
        project = make("")
        settings = project.folder / "Pulumi.yaml"
        options = "runtime: {name: python, options: {virtualenv: none}}"
        settings.write_text(settings.read_text().replace("runtime: python", options))
        assert "none does not exist: run `pulumi install`" in project.up(succeeds=False)

    def test_refused_resource_is_told_without_a_traceback(self, make: Make):
        text = make("""
            import pulumi_aws as aws
            aws.s3.Bucket("bucket", tags={"echo": "refused"})
        """).up(succeeds=False)
        assert "error: this resource is refused" in text
        assert "resource monitor" not in text.lower()


class TestInterrupt:
    SLOW = """
        import pulumi_aws as aws
        aws.s3.Bucket("first", tags={"echo": "slow"})
    """

    def test_interrupt_finishes_what_is_under_way(self, make: Make):
        project = make(self.SLOW)
        process = project.start("up", "--yes", "--skip-preview")
        text = read_until(process, "first creating")
        process.send_signal(signal.SIGINT)
        text += process.communicate(timeout=60)[0]
        assert process.returncode != 0
        assert "cancelling" in text
        check_quiet(text)
        assert not children(process.pid)
        assert "aws:s3/bucket:Bucket::first" in project.resources()
        project.up()

    def test_killed_engine_leaves_no_process(self, make: Make):
        project = make("""
            import pulumi_eks as eks
            eks.Cluster("llm", authentication_mode="API", skip_default_node_group=True, vpc_id="v",
                        subnet_ids=["s"], tags={"echo": "slow"})
        """)
        process = project.start("up", "--yes", "--skip-preview")
        read_until(process, "llm-eksClusterSecurityGroup creating")
        started = children(process.pid)
        assert len(started) == 4  # the language host, the program, the aws and the eks plugin
        process.kill()
        process.wait()
        deadline = time.monotonic() + 15
        while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
        process.communicate()
        project.run("cancel", "--yes")
        project.program("")
        project.run("refresh", "--yes", "--skip-preview", "--clear-pending-creates", quiet=False)
        project.up()


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """What a process says up to the line with these words."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(text)


def children(pid: int) -> set[int]:
    """Every process below one."""
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(status.parent.name)
            found |= {child} | children(child)
    return found


class TestImport:
    def test_import(self, make: Make):
        project = make("")
        project.up()
        project.run("import", "--yes", "--generate-code=false", "aws:s3/bucket:Bucket", "mine", "mine-1")
        assert project.resources()["aws:s3/bucket:Bucket::mine"]["id"] == "mine-1"


class TestPolicyPack:
    PACK = """
        from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

        def described(args, report):
            if args.resource_type == "aws:iam/role:Role" and not args.props.get("description"):
                report("a role needs a description")

        PolicyPack("roles", enforcement_level=EnforcementLevel.MANDATORY, policies=[
            ResourceValidationPolicy(name="described", description="Roles are described.", validate=described),
        ])
    """
    PROGRAM = """
        import pulumi_aws as aws
        aws.iam.Role("role", assume_role_policy="{{}}", description={description!r})
    """

    def test_pack_with_a_virtual_environment_of_its_own(self, make: Make, tmp_path: Path):
        project = make(self.PROGRAM.format(description=""))
        pack = tmp_path / "policies"
        pack.mkdir()
        runtime = "runtime: {name: python, options: {virtualenv: venv}}"
        (pack / "PulumiPolicy.yaml").write_text(f"version: 0.1.0\n{runtime}\n")
        (pack / "requirements.txt").write_text("pulumi-policy==1.21.0\n")
        (pack / "__main__.py").write_text(dedent(self.PACK))
        flags = ("preview", "--policy-pack", str(pack))
        assert "run `pulumi install` in the folder that names it" in project.run(*flags, succeeds=False)
        installed = Project(pack, project.environment).run("install")
        assert "Creating virtual environment" in installed
        refused = project.run(*flags, succeeds=False)
        assert "[mandatory]  described  (aws:iam:Role: role)" in refused
        assert "a role needs a description" in refused
        project.program(self.PROGRAM.format(description="Nodes"))
        assert "roles@v0.1.0" in project.run(*flags)


class TestEks:
    PROGRAM = """
        import pulumi
        import pulumi_aws as aws
        import pulumi_eks as eks

        provider = aws.Provider("aws", region="us-east-1")
        opts = pulumi.ResourceOptions(providers={"aws": provider})
        cluster = eks.Cluster(
            "llm", authentication_mode="API", skip_default_node_group=True, create_oidc_provider=False,
            vpc_id="vpc-1", private_subnet_ids=["subnet-a", "subnet-b"], version="1.36", opts=opts,
        )
        role = aws.iam.Role("nodes", assume_role_policy="{}", opts=pulumi.ResourceOptions(provider=provider))
        group = eks.ManagedNodeGroup(
            "system", cluster=cluster, node_role=role, instance_types=["m7i.large"],
            ami_type="AL2023_x86_64_STANDARD", disk_size=50, enable_imd_sv2=True,
            scaling_config={"desired_size": 1, "min_size": 1, "max_size": 2}, opts=opts,
        )
        pulumi.export("clusterName", cluster.eks_cluster.apply(lambda each: each.name))
        pulumi.export("coreClusterName", cluster.core.apply(lambda core: core.cluster.name))
        pulumi.export("kubeconfig", cluster.kubeconfig_json)
        pulumi.export("securityGroup", cluster.cluster_security_group_id)
        pulumi.export("groupVersion", group.node_group.apply(lambda each: each.version))
    """

    def test_up_and_no_change(self, make: Make):
        project = make(self.PROGRAM)
        assert "+ 23 to create" in project.run("preview")
        assert "+ 23 created" in project.up()
        outputs = project.outputs()
        kubeconfig = json.loads(outputs.pop("kubeconfig"))
        assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://echo.invalid"
        assert outputs == {
            "clusterName": "echo",
            "coreClusterName": "echo",
            "securityGroup": "id-llm-eksClusterSecurityGroup",
            "groupVersion": "1.36",
        }
        made = project.resources()
        group = made["eks:index:ManagedNodeGroup$aws:eks/nodeGroup:NodeGroup::system"]
        assert "pulumi:providers:aws::aws" in group["provider"]
        assert group["inputs"]["launchTemplate"] == {"id": "id-system-launchTemplate", "version": "3"}
        assert group["inputs"]["subnetIds"] == ["subnet-a", "subnet-b"]
        addon = made["eks:index:Cluster$eks:index:VpcCniAddon$aws:eks/addon:Addon::llm-vpc-cni"]
        assert addon["inputs"]["addonVersion"] == "v1.2.3-eksbuild.1"
        assert not [each for each in made if each.startswith(("pulumi:providers:aws::default", "pulumi:providers:kub"))]
        project.up("--expect-no-changes")
        project.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
        project.run("destroy", "--yes", "--skip-preview")

    def test_local_kubeconfig_is_secret(self, make: Make, tmp_path: Path):
        config = {"clusters": [{"name": "local"}], "users": [{"user": {"client-key-data": "the-key"}}]}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        project = make(self.PROGRAM)
        project.environment = {**project.environment, "LLM_SERVING_KUBECONFIG": str(path)}
        project.up()
        assert json.loads(project.outputs()["kubeconfig"]) == config
        assert "the-key" not in project.run("stack", "export")

    def test_unsupported_inputs_are_named(self, make: Make):
        text = make("""
            import pulumi_eks as eks
            eks.Cluster("llm", authentication_mode="API", vpc_id="v", subnet_ids=["s"], fargate=True, gpu=True)
        """).run("preview", succeeds=False)
        assert "property fargate with value true has a problem: is not supported by the local eks provider" in text
        assert "property gpu" in text
        assert "property skipDefaultNodeGroup" in text
