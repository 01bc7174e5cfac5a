"""Measures the program's own evaluation: all that it does but what the engine and the providers do for it.

Pulumi's mocks stand for the engine: they answer each registration with its inputs. The program is the real one, from
its settings over its checks to the last registration, on a stack of prod's shape with a number of model services.

python -m local.evaluation SERVICES
"""

import asyncio
import json
import os
import runpy
import sys
import time
from typing import Any

import pulumi
from pulumi.runtime import mocks

from local.engine import committed

STACK = "prod"
MODEL = "qwen2-5-7b-instruct"
"""The service of that stack that is repeated."""
NO_ACCOUNT = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""Variables with which nothing is asked of an account: that is the network's time, not the program's."""
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
ANSWERS: dict[str, dict[str, Any]] = {
    "aws:ecr/getImage:getImage": {"imageDigest": "sha256:" + "0" * 64},
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": "333333333333"},
    "aws:index/getPartition:getPartition": {"partition": "aws"},
    "aws:index/getRegion:getRegion": {"region": "us-east-1"},
}
"""What the functions that the program calls return."""


class Engine(mocks.Mocks):
    """Stands for the engine in a preview: what is made has its inputs, and nothing more is known of it."""

    def __init__(self) -> None:
        self.resources = 0

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Counts a resource."""
        self.resources += 1
        given: Any = args
        return "", dict(given.inputs)

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Answers a function."""
        return ANSWERS[args.token], []


def configuration(services: int) -> dict[str, str]:
    """The configuration of prod with as many model services on one pool, as the engine hands it to a program."""
    values: dict[str, Any] = committed(STACK)["config"]
    model = values["llm-serving:models"][MODEL]
    values["llm-serving:models"] = {f"model-{number}": {**model, "model": MODEL} for number in range(services)}
    cluster = values["llm-serving:cluster"]
    nodes = services * model["replicas"]
    cluster["gpuPools"] = {
        model["pool"]: {**cluster["gpuPools"][model["pool"]], "desiredSize": nodes, "maxSize": nodes}
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def measure(services: int) -> dict[str, float]:
    """Seconds that this process needs to import the program and to evaluate it, and the number of resources.

    `processor_seconds` is what the evaluation takes of a processor, whatever else the machine does meanwhile.

    A process can do it once: a second import would take no time.
    """
    os.environ.update({**NO_ACCOUNT, "PULUMI_CONFIG": json.dumps(configuration(services))})
    for name in CREDENTIALS:
        os.environ.pop(name, None)
    engine = Engine()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(engine, project="llm-serving", stack=STACK, preview=True)
    begun = time.perf_counter()
    runpy.run_module("infra.__main__", run_name="infra.imported")
    imported, processor = time.perf_counter(), time.process_time()
    runtime: Any = pulumi.runtime
    runtime.test(_run)()
    return {
        "import_seconds": imported - begun,
        "seconds": time.perf_counter() - imported,
        "processor_seconds": time.process_time() - processor,
        "resources": engine.resources,
    }


def _run() -> None:
    runpy.run_module("infra", run_name="__main__")


if __name__ == "__main__":
    result = measure(int(sys.argv[1]))
    sys.stdout.write(json.dumps(result) + "\n")
