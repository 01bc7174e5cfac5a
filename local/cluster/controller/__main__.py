"""`python -m local.cluster.controller`: runs every part until it is told to stop."""

import logging
import signal
import sys
import threading

from local.addresses import HOST_IP
from local.cluster.api import Api
from local.cluster.controller import groups, identity_servers
from local.cluster.controller.autoscaler import Autoscaler
from local.cluster.controller.aws import client
from local.cluster.controller.log_shipping import LogShipping
from local.cluster.controller.loop import forever
from local.cluster.controller.node_groups import NodeGroups
from local.cluster.controller.pod_identity import PodIdentity
from local.cluster.controller.target_groups import TargetGroups
from local.ports import port

NODES_SECONDS = 2
AUTOSCALER_SECONDS = 5
LOG_SHIPPING_SECONDS = 3


def main() -> None:
    """Starts the parts, waits for SIGTERM, and lets a node that is just starting finish that."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "botocore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    stop = threading.Event()

    def leave(_number: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    api = Api.admin()

    def read() -> list[groups.NodeGroup]:
        return groups.read(client("eks"), client("ec2"))

    def endpoint() -> str:
        return f"http://{HOST_IP}:{port('cloud')}"

    identity = PodIdentity(api, client, endpoint)
    identity_servers.start(identity, port("identity"))
    node_groups = NodeGroups(api, read, stop)
    target_groups = TargetGroups(api, client, stop)
    autoscaler = Autoscaler(api, read, client)
    log_shipping = LogShipping(api, client, endpoint)
    for name, step, seconds in (
        ("target groups", target_groups.step, 0.05),
        ("autoscaler", autoscaler.step, AUTOSCALER_SECONDS),
        ("log shipping", log_shipping.step, LOG_SHIPPING_SECONDS),
    ):
        threading.Thread(
            target=forever, args=(name, step, stop), kwargs={"seconds": seconds}, name=name, daemon=True
        ).start()
    forever("node groups", node_groups.step, stop, seconds=NODES_SECONDS)
    node_groups.wait(5)


if __name__ == "__main__":
    main()
