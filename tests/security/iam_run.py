"""Brings prod's AWS part up on an emulator with enforced IAM, as an IAM user, and has the emulator record each check.

`python -m tests.security.iam_run` writes `docs/iam/` from what a user who may do everything is seen to do.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from local import paths, plugins, seeds
from local.cloud import recording
from local.plugins import installation
from tests.cloud_harness import Cloud
from tests.security.iam_documents import Call, filled, generalised, parts, policy

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "docs" / "iam"
PROGRAM = Path(__file__).with_name("iam_program.py")
STACK = "prod"
DOMAIN = "llm.example.com"
WHERE = {"account": "000000000000", "region": "us-east-1", "stack": STACK, "domain": DOMAIN}
CERTIFICATE = "arn:aws:acm:us-east-1:000000000000:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
"""Of no certificate: the emulator takes any."""
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
CHANGES: Mapping[str, Any] = {
    "llm-serving:logRetentionDays": 400,
    "llm-serving:modelBucket": {"requireTls": False, "noncurrentVersionDays": 60},
}
"""What a deployment changes later. Not the tags: the emulator can't tag an EKS Pod Identity association."""


class Stack:
    """The program's stack on an emulator of its own. `environment` is what the engine runs with."""

    def __init__(self, folder: Path, cloud: Cloud, variables: Mapping[str, str]) -> None:
        self.cloud = cloud
        self.folder = folder / "program"
        self.folder.mkdir()
        addresses: dict[str, str] = json.loads(cloud.call("__import__('json').dumps(cloud.environment())"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "AWS_"))}
        # A refresh can't read back what was written to files, and forgets it.
        in_cluster = {"RENDERED": str(folder / "rendered"), "PULUMI_K8S_DELETE_UNREACHABLE": "true"}
        self.environment = {**kept, **addresses, **variables, **in_cluster}
        shutil.copy(PROGRAM, self.folder / "__main__.py")
        (self.folder / "Pulumi.yaml").write_text("name: llm-serving\nruntime: python\n")
        self.succeed("stack", "init", STACK)
        committed = (ROOT / "stacks" / f"Pulumi.{STACK}.yaml").read_text()
        account = yaml.safe_load(committed)["config"]["llm-serving:aws"]["accountId"]
        self._stack_file: dict[str, Any] = yaml.safe_load(committed.replace(account, WHERE["account"]))
        self.configure({"llm-serving:protect": False})
        config = self._stack_file["config"]
        config["llm-serving:aws"]["s3PathStyle"] = True
        config["llm-serving:modelBucket"]["requireTls"] = False  # the emulator speaks plain HTTP
        # The most that the provider on this machine takes: it is older than streaming.
        config["llm-serving:apiGateway"]["timeoutSeconds"] = 300
        made = cloud.client("route53").create_hosted_zone(Name="example.com", CallerReference="1")
        self.zone = str(made["HostedZone"]["Id"]).rpartition("/")[2]
        # Prod has none, which would be somebody's: what one takes is to be known all the same.
        config["llm-serving:apiGateway"]["domain"] = {
            "name": DOMAIN, "certificateArn": CERTIFICATE, "hostedZoneId": self.zone,
        }  # fmt: skip
        self.configure({})
        seeds.put_images(cloud.client("ecr"), seeds.tagged_images(self._stack_file))

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Lay some settings over the stack's."""
        file = self.folder / f"Pulumi.{STACK}.yaml"
        salt = yaml.safe_load(file.read_text())["encryptionsalt"]
        self._stack_file["config"].update(changes)
        file.write_text(yaml.safe_dump({**self._stack_file, "encryptionsalt": salt}))

    def user(self, name: str, *documents: str) -> str:
        """Make an IAM user with these policies and nothing else, let the engine be it; return its access key."""
        iam = self.cloud.client("iam")
        iam.create_user(UserName=name)
        for number, document in enumerate(documents):
            iam.put_user_policy(UserName=name, PolicyName=f"only-{number}", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        profile = self.folder / name
        access, secret = str(key["AccessKeyId"]), str(key["SecretAccessKey"])
        profile.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        self.environment |= {
            "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_CONFIG_FILE": str(profile), "AWS_SHARED_CREDENTIALS_FILE": str(profile),
        }  # fmt: skip
        return access

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the Pulumi CLI."""
        return subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip

    def succeed(self, *arguments: str) -> str:
        """Run the Pulumi CLI; fails with its words where it does."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        return done.stdout

    def up(self) -> None:
        """Create or update everything."""
        self.succeed("up", "--yes", "--skip-preview")

    def preview(self) -> None:
        """Preview the program."""
        self.succeed("preview")

    def destroy(self) -> None:
        """Delete everything."""
        self.succeed("destroy", "--yes", "--skip-preview")

    def calls(self, access_key: str) -> list[Call]:
        """Return what was checked for an access key, generalised, each once."""
        record = Path(self.cloud.environment[recording.VARIABLE])
        where = {**WHERE, "zone": self.zone}
        seen = {(action, generalised(resource, **where)) for action, resource in recording.calls(record, access_key)}
        return sorted(seen)


@contextmanager
def running(folder: Path) -> Generator[Stack]:
    """A cloud and a stack on it that has no resource yet; both are gone afterwards."""
    cloud = Cloud(folder)
    cloud.environment[recording.VARIABLE] = str(folder / "calls.jsonl")
    with patch.object(paths, "STATE", folder / "engine"), patch.object(installation, "STATE", folder / "engine"):
        variables = plugins.install()
    cloud.start()
    try:
        yield Stack(folder, cloud, variables)
    finally:
        cloud.stop()


def observed(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the policies by name that allow what a preview and a deployment were seen to do, and little else."""
    everything = json.dumps(EVERYTHING)
    with running(folder) as stack:
        previewing = stack.user("previews", everything)
        stack.preview()
        first = stack.user("deploys", everything)
        stack.up()
        previewing_again = stack.user("previews-again", everything)
        stack.configure(CHANGES)
        stack.preview()
        again = stack.user("deploys-again", everything)
        stack.preview()
        stack.up()
        stack.succeed("refresh", "--yes", "--skip-preview")
        stack.destroy()
        previewed = [*stack.calls(previewing), *stack.calls(previewing_again)]
        deployed = [*stack.calls(previewing), *stack.calls(first), *stack.calls(again)]
        return {"preview": policy(previewed), **parts(deployed)}


def kept(name: str, zone: str = "Z0123456789ABC") -> str:
    """Return a kept document, filled in for the emulated account and a hosted zone."""
    return filled(json.loads((DOCUMENTS / f"{name}.json").read_text()), **WHERE, zone=zone)


def deploying(zone: str = "Z0123456789ABC") -> list[str]:
    """Return all documents of a deployment, filled in."""
    return [kept(name, zone) for name in ("deploy", "deploy-network", "deploy-edge")]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for document, made in observed(Path(temporary)).items():
            DOCUMENTS.mkdir(exist_ok=True)
            (DOCUMENTS / f"{document}.json").write_text(json.dumps(made, indent=2) + "\n")
