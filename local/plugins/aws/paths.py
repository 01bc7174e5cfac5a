"""Property paths, such as `rules[0].filter.prefix` or `tags["a.b/c"]`, from one side's names to the other's."""

import json
import re
from collections.abc import Sequence

from local.plugins.aws.conversion import Direction
from local.plugins.aws.pairing import Pairings
from local.plugins.aws.shapes import ANY, ListOf, MapOf, ObjectShape, Shape

_STEP = re.compile(r'\.?(?P<name>[^.\[\]"]+)|\[(?P<index>\d+|\*)\]|\["(?P<key>(?:[^"\\]|\\.)*)"\]')

Step = str | int
"""A name or key, or a position in a list."""


def parse(path: str) -> list[Step]:
    """The steps of a path."""
    steps: list[Step] = []
    for match in _STEP.finditer(path):
        if match["index"] is not None:
            steps.append(match["index"] if match["index"] == "*" else int(match["index"]))
        elif match["key"] is not None:
            steps.append(json.loads(f'"{match["key"]}"'))
        else:
            steps.append(match["name"])
    return steps


def render(steps: Sequence[Step]) -> str:
    """The path of these steps."""
    text = ""
    for step in steps:
        if isinstance(step, int) or step == "*":
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_$][\w$]*", step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def convert(path: str, source: ObjectShape, target: ObjectShape, pairings: Pairings, direction: Direction) -> str:
    """A path from the source's names to the target's. What can't be followed is kept as it is."""
    to_bridge = direction is Direction.TO_BRIDGE
    steps = parse(path)
    one: Shape = source
    other: Shape = target
    result: list[Step] = []
    while steps:
        step = steps[0]
        is_index = isinstance(step, int) or step == "*"
        if isinstance(one, ListOf) and not isinstance(other, ListOf):
            one = one.element
            if is_index:
                steps.pop(0)
            continue
        if isinstance(other, ListOf) and not isinstance(one, ListOf):
            other = other.element
            result.append(0)
            continue
        steps.pop(0)
        if isinstance(one, ObjectShape) and isinstance(other, ObjectShape):
            pairing = pairings.of(one, other) if to_bridge else pairings.of(other, one)
            pair = (pairing.by_sdk_name if to_bridge else pairing.by_bridge_name).get(str(step))
            if pair is not None:
                result.append(pair.bridge_name if to_bridge else pair.sdk_name)
                one, other = pair.sdk_shape, pair.bridge_shape
                if not to_bridge:
                    one, other = other, one
                continue
        result.append(step)
        one, other = _inside(one), _inside(other)
    return render(result)


def _inside(shape: Shape) -> Shape:
    return shape.element if isinstance(shape, ListOf | MapOf) else ANY
