"""Refuses two texts that are alike in meaning by their vectors, and yet ask for different answers.

Embeddings hardly see what changes an answer most: a number, a name, a "not", a unit, which of two comes first. So these
are compared as words. The guard refuses where it can't tell: what it costs is a request to the model.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from llm_gateway.guard_words import DIRECTED, FILLERS, NEGATIONS, NUMBERS, OPPOSITE_PREFIXES, OPPOSITES, UNITS

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?")
_QUOTED = re.compile(r"`([^`]+)`|\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|(?<!\w)'([^']+)'(?!\w)")
_CODE = re.compile(
    r"(?<!\w)(?:[\w.-]*/[\w./-]+"  # paths
    r"|--?[A-Za-z][\w-]*"  # options
    r"|\w+(?:[._]\w+)+(?:\(\))?|\w+\(\)"  # dotted and snake_case names, calls
    r"|[a-z]+[A-Z]\w*"  # camelCase
    r"|[A-Za-z]+[#+]+|[A-Za-z]+-?\d[\w.-]*|\d+[A-Za-z]\w*)"  # C++, GPT-4, 3D
)
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n]\s*)[\"'\u201c(]*([^\W\d_]+)")


def refusal(asked: str, known: str) -> str:
    """Why the answer to `known` may not answer `asked`; "" where nothing speaks against it.

    One of `number`, `negation`, `unit`, `name`, `direction`. The same whichever text is first.
    """
    words, known_words = _words(asked), _words(known)
    if _numbers(asked, words) != _numbers(known, known_words):
        return "number"
    if _negated(words) != _negated(known_words):
        return "negation"
    if _units(words) != _units(known_words):
        return "unit"
    if not (_marked(asked) <= _everything(known) and _marked(known) <= _everything(asked)):
        return "name"
    if _opposed(frozenset(words), frozenset(known_words)) or _swapped(words, known_words):
        return "direction"
    return ""


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]


def _numbers(text: str, words: Iterable[str]) -> list[str]:
    digits = [number.rstrip("stndrh").lstrip("+").replace(",", "") for number in _NUMBER.findall(text.lower())]
    return sorted(digits + [NUMBERS[word] for word in words if word in NUMBERS and not word[0].isdigit()])


def _negated(words: Iterable[str]) -> bool:
    return sum(word in NEGATIONS or word.endswith("n't") for word in words) % 2 == 1


def _units(words: Iterable[str]) -> set[str]:
    return {UNITS[word] for word in words if word in UNITS}


def _marked(text: str) -> frozenset[str]:
    """Words that the text itself marks as names: capitalised within a sentence, in quotes, or spelt like code."""
    starts = {found.start(1) for found in _SENTENCE_START.finditer(text)}
    capitals = [found.group().lower() for found in _WORD.finditer(text) if _is_name(found, starts)]
    quoted = [word for groups in _QUOTED.findall(text) for word in _words(" ".join(groups))]
    code = [found.group().lower().strip(".-") for found in _CODE.finditer(text)]
    return frozenset(_stem(word) for word in (*capitals, *quoted, *code))


def _is_name(word: re.Match[str], starts: set[int]) -> bool:
    """Whether a word has a capital that neither English nor the start of a sentence gives it."""
    text = word.group()
    if word.start() in starts:
        return text[1:] != text[1:].lower()
    return text[0].isupper() and not re.fullmatch("I(['\u2019].*)?", text)


def _everything(text: str) -> frozenset[str]:
    return frozenset(map(_stem, _words(text))) | _marked(text)


def _stem(word: str) -> str:
    return re.sub(r"['\u2019]s$", "", word)


def _opposed(words: frozenset[str], known: frozenset[str]) -> bool:
    """Whether one text has a word, the other its opposite, and neither has both."""
    for one, other in OPPOSITES:
        here, there = (bool(words & one), bool(words & other)), (bool(known & one), bool(known & other))
        if here != there and ((here[0] and there[1]) or (here[1] and there[0])):
            return True
    only, only_known = words - known, known - words
    return any(
        prefix + word in others
        for ours, others in ((only, only_known), (only_known, only))
        for word in ours
        for prefix in OPPOSITE_PREFIXES
    )


def _swapped(words: Sequence[str], known: Sequence[str]) -> bool:
    """Whether both texts say the same things, and what comes before a word in one comes after it in the other."""
    mine, yours = ([_stem(word) for word in each if word not in FILLERS] for each in (words, known))
    if Counter(mine) == Counter(yours):
        # A part that is moved to the other end is not another order: "In Python, how ...?", "How ... in Python?"
        return not any(mine[turn:] + mine[:turn] == yours for turn in range(max(1, len(mine))))
    shared = (set(mine) & set(yours)) - DIRECTED
    return any(
        _crossed(_sides(mine, word, shared), _sides(yours, word, shared)) for word in DIRECTED & set(mine) & set(yours)
    )


def _sides(words: Sequence[str], around: str, of: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    place = words.index(around)
    return frozenset(words[:place]) & of, frozenset(words[place + 1 :]) & of


def _crossed(here: tuple[frozenset[str], frozenset[str]], there: tuple[frozenset[str], frozenset[str]]) -> bool:
    return bool(here[0] & there[1]) and bool(here[1] & there[0])
