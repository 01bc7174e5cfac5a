"""CloudWatch: an alarm is described whole. MiniStack's XML answer leaves out most of what it was made with."""

import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from local.cloud import emulator
from local.cloud.emulator import Call, Response

TEXTS = ("AlarmDescription", "Statistic", "ExtendedStatistic", "Period", "Unit", "TreatMissingData")
ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")


def after(call: Call, response: Response) -> Response:
    """Adds what is missing of each metric alarm to an answer of the query protocol; the other two have it."""
    status, headers, body = response
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    if call.operation != "DescribeAlarms" or "<DescribeAlarmsResult>" not in text:
        return response
    alarms: dict[str, dict[str, Any]] = emulator.service("cloudwatch")._alarms

    def whole(found: re.Match[str]) -> str:
        alarm = alarms.get(found[1])
        return found[0] + "".join(_elements(alarm) if alarm else ())

    return status, headers, re.sub(r"<AlarmName>([^<]*)</AlarmName>", whole, text).encode()


def _elements(alarm: dict[str, Any]) -> Iterator[str]:
    for name in TEXTS:
        if alarm.get(name) not in {None, ""}:
            yield f"<{name}>{escape(str(alarm[name]))}</{name}>"
    yield f"<ActionsEnabled>{str(alarm.get('ActionsEnabled', True)).lower()}</ActionsEnabled>"
    for name in ACTIONS:
        yield f"<{name}>{''.join(f'<member>{escape(arn)}</member>' for arn in alarm.get(name) or ())}</{name}>"
    dimensions = "".join(
        f"<member><Name>{escape(each['Name'])}</Name><Value>{escape(each['Value'])}</Value></member>"
        for each in alarm.get("Dimensions") or ()
    )
    yield f"<Dimensions>{dimensions}</Dimensions>"
