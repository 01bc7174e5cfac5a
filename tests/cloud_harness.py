"""A local cloud of its own for a test: own state folder, own ports, nothing shared with a running environment."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local import ports
from local.addresses import REGION
from local.cloud import stores
from local.processes import start_time

SERVICES = ("cloud", "cache")


class Cloud:
    """The emulator, Redis and the balancer, started as `make up` starts them but without a bridge."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "ports.json").write_text(json.dumps({name: ports.free() for name in SERVICES}))
        self.environment = {
            **os.environ,
            "LLM_SERVING_STATE": str(self.state),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def call(self, expression: str) -> str:
        """Evaluates an expression of `local.cloud` in a process with this cloud's settings; returns its output."""
        program = f"from local import cloud; print({expression})"
        run = subprocess.run(
            [sys.executable, "-c", program], env=self.environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def start(self) -> None:
        """Starts everything, and waits until it answers."""
        self.call("cloud.start(bridge=False)")

    def stop(self) -> None:
        """Stops everything."""
        self.call("cloud.stop()")

    def port(self, service: str) -> int:
        """The port of one of its services."""
        return int(json.loads((self.state / "ports.json").read_text())[service])

    def pid(self, daemon: str) -> int:
        """The process id of one of its daemons."""
        return int(json.loads((self.state / "run" / f"{daemon}.json").read_text())["pid"])

    def kill(self, *daemons: str) -> None:
        """Kills daemons as `kill -9` does, and waits until they are gone."""
        for pid in map(self.pid, daemons):
            os.kill(pid, signal.SIGKILL)
            while start_time(pid) is not None:
                time.sleep(0.01)

    def saved(self) -> None:
        """Waits until every change made so far is on disk, where a kill leaves it."""
        logs, mark = self.client("logs"), uuid.uuid4().hex
        identifier = logs.put_query_definition(name=mark, queryString="fields @timestamp")["queryDefinitionId"]
        self._wait_for_mark(mark, there=True)
        logs.delete_query_definition(queryDefinitionId=identifier)
        self._wait_for_mark(mark, there=False)

    def _wait_for_mark(self, mark: str, *, there: bool) -> None:
        last = self.state / "cloud" / "services" / f"{stores.KEY}.json"  # of the files of one save
        deadline = time.monotonic() + 30
        while (last.exists() and mark in last.read_text()) is not there:
            assert time.monotonic() < deadline, "the emulator's state isn't saved"
            time.sleep(0.05)

    def listening(self, daemon: str) -> list[str]:
        """The lines of /proc/net/tcp for the ports on which a daemon listens."""
        folder = Path(f"/proc/{self.pid(daemon)}/fd")
        links = [str(entry.readlink()) for entry in folder.iterdir()]
        sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return [line for line in lines if line.split()[3] == "0A" and line.split()[9] in sockets]

    def variables(self) -> dict[str, str]:
        """The environment variables that lead AWS SDKs and the AWS provider here."""
        return json.loads(self.call("__import__('json').dumps(cloud.environment())"))

    @property
    def url(self) -> str:
        """The emulator's address."""
        return f"http://127.0.0.1:{self.port('cloud')}"

    def client(self, service: str, key: str = "test", secret: str = "test", token: str = "", tries: int = 1) -> Any:
        """A boto3 client, as root unless told otherwise, that makes each call `tries` times at most."""
        session: Any = boto3.Session()
        return session.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token or None,
            config=Config(retries={"total_max_attempts": tries}, proxies={}),
        )


def network(cloud: Cloud) -> list[str]:
    """Makes a VPC with two subnets; returns the subnets' ids."""
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    return [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{index}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"][
            "SubnetId"
        ]
        for index, zone in enumerate("ab")
    ]


def role(cloud: Cloud, name: str, service: str) -> str:
    """Makes an IAM role that a service may take; returns its ARN."""
    principal = {"Service": service, "AWS": "arn:aws:iam::000000000000:root"}
    allow = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [allow]}
    made = cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    return str(made["Role"]["Arn"])
