"""The little that is needed to write PromQL safely and to read the metrics' names out of it again."""

import re
from collections.abc import Iterable

from llm_serving.observability import metrics
from llm_serving.observability.metric import Source

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACES = re.compile(r"\{[^{}]*\}")
_RANGE = re.compile(r"\[[^\]]*\]")
_LABEL_LIST = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_NAME = re.compile(r"(?<![\w.:$])[A-Za-z_:][A-Za-z0-9_:]*(?![\w:])(?!\s*\()")
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on", "ignoring"})


def series(expression: str) -> tuple[str, ...]:
    """The names of the series that an expression reads, each once, in order. It must name them outside of braces."""
    text = _STRING.sub('""', expression)
    for pattern in (_BRACES, _RANGE, _LABEL_LIST):
        text = pattern.sub("", text)
    return tuple(dict.fromkeys(name for name in _NAME.findall(text) if name.lower() not in _KEYWORDS))


def sources(expression: str) -> frozenset[Source]:
    """What must be scraped for an expression to have an answer; raises UnknownMetricError for an unknown metric."""
    return metrics.sources(series(expression))


def selector(*matchers: str) -> str:
    """A label selector; nothing where there are no matchers."""
    return "{" + ",".join(matcher for matcher in matchers if matcher) + "}" if any(matchers) else ""


def narrowed(labels: str, matcher: str) -> str:
    """A label selector with one more matcher."""
    return f"{labels[:-1]},{matcher}}}" if labels else selector(matcher)


def one_of(label: str, names: Iterable[str]) -> str:
    """A matcher for any of `names`, which must need no escaping (Kubernetes names do not)."""
    values = sorted(names)
    return f'{label}="{values[0]}"' if len(values) == 1 else f'{label}=~"{"|".join(values)}"'


def none_of(label: str, names: Iterable[str]) -> str:
    """A matcher for anything but `names`; nothing where there are none."""
    values = sorted(names)
    return f'{label}!~"{"|".join(values)}"' if values else ""


def renamed(expression: str, target: str, source: str) -> str:
    """The expression with the label `source` copied to `target` where it has a value."""
    return f'label_replace({expression}, "{target}", "$1", "{source}", "(.+)")'


def any_of(expressions: Iterable[str]) -> str:
    """The series of all expressions."""
    return " or ".join(expressions)


def zero_where_missing(part: str, whole: str) -> str:
    """`part`, and 0 for each series of `whole` that it lacks: a counter isn't there before its first event."""
    return f"({part} or 0 * {whole})"
