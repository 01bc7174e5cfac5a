"""Firehose: a stream to OpenSearch is described by the names that AWS has for its parts.

MiniStack gives back what CreateDeliveryStream was sent, under a name that no client looks for.
"""

import json
from typing import Any

from local.cloud.emulator import Call, Response, reply

MINISTACK = "AmazonOpenSearchDestinationDescription"
AWS = "AmazonopensearchserviceDestinationDescription"
PARTS = {"S3Configuration": "S3DestinationDescription", "VpcConfiguration": "VpcConfigurationDescription"}
"""Of an OpenSearch destination: what is sent, and what it is called when it is described."""


def after(call: Call, response: Response) -> Response:
    """Gives the descriptions of OpenSearch destinations AWS's shape."""
    if call.operation != "DescribeDeliveryStream":
        return response
    body: dict[str, Any] = json.loads(response[2])
    for destination in body["DeliveryStreamDescription"]["Destinations"]:
        if MINISTACK in destination:
            sent = destination.pop(MINISTACK)
            destination[AWS] = {PARTS.get(name, name): value for name, value in sent.items()}
    return reply(body)
