"""How Pulumi names what comes from Terraform: camel case, and a plural for what is a list.

The plural rules are those of `github.com/pulumi/inflector` v0.2.1, which the bridge uses, less the words that no
attribute of an AWS resource ends in.
"""

import re
from functools import cache

_IRREGULAR = {
    "atlas": "atlases",
    "cache": "caches",
    "child": "children",
    "cookie": "cookies",
    "corpus": "corpuses",
    "foot": "feet",
    "genus": "genera",
    "man": "men",
    "move": "moves",
    "niche": "niches",
    "person": "people",
}
_INVARIABLE = re.compile(
    r"(?:chassis|debris|equipment|headquarters|information|.*?media|news|nexus|proceedings|series|species|people"
    r"|.*[nrlm]ese|.*deer|.*fish|.*ois|.*sheep)",
    re.IGNORECASE,
)
_RULES = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"(s)tatus$", r"\1tatuses"),
        (r"(quiz)$", r"\1zes"),
        (r"(matr|vert|ind)(ix|ex)$", r"\1ices"),
        (r"(x|ch|ss|sh)$", r"\1es"),
        (r"([^aeiouy]|qu)y$", r"\1ies"),
        (r"(hive)$", r"\1s"),
        (r"(?:([^f])fe|([lre])f)$", r"\1\2ves"),
        (r"sis$", "ses"),
        (r"([ti])um$", r"\1a"),
        (r"(p)erson$", r"\1eople"),
        (r"(m)an$", r"\1en"),
        (r"(c)hild$", r"\1hildren"),
        (r"(alumn|bacill|cact|foc|fung|nucle|radi|stimul|syllab|termin|vir)us$", r"\1i"),
        (r"us$", "uses"),
        (r"(alias)$", r"\1es"),
        (r"(ax|cris|test)is$", r"\1es"),
        (r"s$", "s"),
        (r"$", "s"),
    )
]


@cache
def plural(word: str) -> str:
    """The plural of an attribute's name."""
    last = re.search(r"(?<!\w)(\w+)$", word)
    if last and (irregular := _IRREGULAR.get(last.group(1).lower())):
        return irregular
    if _INVARIABLE.fullmatch(word):
        return word
    for pattern, replacement in _RULES:
        if pattern.search(word):
            return pattern.sub(replacement, word, count=1)
    return word


def camel(name: str) -> str:
    """An attribute's name in Pulumi's spelling: `vpc_config` is `vpcConfig`."""
    return re.sub(r"(?<=[^_])_+([a-z])", lambda match: match.group(1).upper(), name).replace("_", "")


def snake(name: str) -> str:
    """A name in Python's spelling: `RestApi` is `rest_api`."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def plain(name: str) -> str:
    """A name without case and underscores, to compare names that are spelled in different ways."""
    return name.replace("_", "").lower()
