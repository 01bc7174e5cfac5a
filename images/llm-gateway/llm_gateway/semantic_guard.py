"""Refuses two texts that are alike in meaning by their vectors, and yet ask for different answers.

Embeddings hardly see what changes an answer most: a number, a name, a "not", a unit, which of two comes first. So these
are compared as words. The guard refuses where it can't tell: what it costs is a request to the model.
"""

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?")
_QUOTED = re.compile(r"`([^`]+)`|\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)")
_CODE = re.compile(
    r"(?<!\w)(?:[\w.-]*/[\w./-]+"  # paths
    r"|--?[A-Za-z][\w-]*"  # options
    r"|\w+(?:[._]\w+)+(?:\(\))?|\w+\(\)"  # dotted and snake_case names, calls
    r"|[a-z]+[A-Z]\w*"  # camelCase
    r"|[A-Za-z]+[#+]+|[A-Za-z]+-?\d[\w.-]*|\d+[A-Za-z]\w*)"  # C++, GPT-4, 3D
)
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n]\s*)[\"'“(]*([^\W\d_]+)")

_NUMBER_WORDS = {
    word: str(value)
    for value, words in enumerate(
        "zero,one,two second twice double,three third triple,four fourth,five fifth,six sixth,seven seventh,eight"
        " eighth,nine ninth,ten tenth,eleven eleventh,twelve twelfth,thirteen thirteenth,fourteen fourteenth,fifteen"
        " fifteenth,sixteen sixteenth,seventeen seventeenth,eighteen eighteenth,nineteen nineteenth".split(",")
    )
    for word in words.split()
} | {"first": "1", "once": "1", "half": "1/2", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50"} | {
    "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90", "hundred": "100", "thousand": "1000",
    "million": "1000000", "billion": "1000000000",
}  # fmt: skip
_NEGATIONS = frozenset(
    "not no never none nobody nothing neither nor without cannot except excluding unless lack lacks lacking avoid"
    " avoiding prevent stop instead false fail fails".split()
)
_UNITS = {
    unit: names.split()[0]
    for names in (
        "km kilometer kilometers kilometre kilometres",
        "mile miles mi",
        "m meter meters metre metres",
        "cm centimeter centimeters centimetre centimetres",
        "mm millimeter millimeters millimetre millimetres",
        "ft foot feet",
        "inch inches",
        "yard yards",
        "kg kilogram kilograms kilo kilos",
        "g gram grams",
        "lb lbs pound pounds",
        "oz ounce ounces",
        "ton tons",
        "tonne tonnes",
        "liter liters litre litres",
        "ml milliliter milliliters millilitre millilitres",
        "gallon gallons",
        "cup cups",
        "pint pints",
        "tablespoon tablespoons",
        "teaspoon teaspoons",
        "celsius centigrade",
        "fahrenheit",
        "kelvin",
        "second seconds",
        "minute minutes",
        "hour hours hourly",
        "day days daily",
        "week weeks weekly",
        "month months monthly",
        "year years yearly annual annually",
        "quarter quarters quarterly",
        "dollar dollars usd",
        "euro euros eur",
        "yen jpy",
        "bit bits",
        "byte bytes",
        "kb kilobyte kilobytes",
        "mb megabyte megabytes",
        "gb gigabyte gigabytes",
        "tb terabyte terabytes",
        "mib",
        "gib",
        "watt watts",
        "kilowatt kilowatts kw",
        "volt volts",
        "amp amps ampere amperes",
        "joule joules",
        "calorie calories",
        "acre acres",
        "hectare hectares",
        "percent percentage",
    )
    for unit in names.split()
}
_OPPOSITES = tuple(
    (frozenset(one.split()), frozenset(other.split()))
    for one, other in (
        ("increase increases increasing increased raise raising raised", "decrease decreases decreasing decreased"
         " reduce reduces reducing lower lowering lowered"),
        ("before", "after"),
        ("above over", "below under beneath"),
        ("maximum max most highest largest biggest greatest", "minimum min least lowest smallest fewest"),
        ("more larger bigger greater higher longer", "less fewer smaller lower shorter"),
        ("longest tallest", "shortest"),
        ("oldest older earliest", "newest newer latest youngest"),
        ("first", "last final"),
        ("enable enables enabled enabling", "disable disables disabled disabling"),
        ("start starts starting begin begins opening", "end ends ending finish finishes close closing stop stops"),
        ("open opens", "close closes shut"),
        ("add adds adding", "remove removes removing delete deletes deleting subtract subtracting"),
        ("create creates creating", "delete deletes deleting destroy destroying remove removing"),
        ("install installing", "uninstall uninstalling remove removing"),
        ("import imports importing", "export exports exporting"),
        ("upload uploads uploading", "download downloads downloading"),
        ("encode encoding", "decode decoding"),
        ("encrypt encrypting encryption", "decrypt decrypting decryption"),
        ("compress compressing", "decompress decompressing extract unzip"),
        ("push pushing", "pull pulling"),
        ("send sends sending", "receive receives receiving"),
        ("buy buying", "sell selling"),
        ("lend lending", "borrow borrowing"),
        ("gain gains gaining", "lose loses losing"),
        ("profit profits", "loss losses"),
        ("pros advantages advantage benefits benefit", "cons disadvantages disadvantage drawbacks drawback risks"),
        ("legal allowed permitted", "illegal forbidden prohibited"),
        ("safe", "unsafe dangerous"),
        ("possible", "impossible"),
        ("include includes including", "exclude excludes excluding"),
        ("ascending", "descending"),
        ("horizontal horizontally", "vertical vertically"),
        ("left", "right"),
        ("north northern", "south southern"),
        ("east eastern", "west western"),
        ("up upgrade upstairs upstream", "down downgrade downstairs downstream"),
        ("in inside into", "out outside"),
        ("input inputs", "output outputs"),
        ("read reading", "write writing"),
        ("lock locks locking", "unlock unlocks unlocking"),
        ("connect connecting", "disconnect disconnecting"),
        ("hot heat heating warm", "cold cool cooling"),
        ("male men man boy boys husband", "female women woman girl girls wife"),
        ("best", "worst"),
        ("good", "bad"),
        ("same similar similarities", "different difference differences"),
        ("past previous", "future next"),
        ("today", "tomorrow"), ("today", "yesterday"), ("tomorrow", "yesterday"),
        ("morning", "evening"),
        ("am", "pm"),
        ("public", "private"),
        ("client clients", "server servers"),
        ("import", "exclude"),
        ("minimize minimise", "maximize maximise"),
        ("positive", "negative"),
        ("win winning", "lose losing"),
        ("fast faster quick quickly speed", "slow slower slowly"),
        ("hire hiring", "fire firing"),
        ("accept accepting", "reject rejecting decline declining"),
        ("with", "without"),
    )
)  # fmt: skip
_DIRECTED = frozenset("from to into than before after versus over under by for".split())
"""Words on whose two sides a name, number or unit means something else."""


def refusal(asked: str, known: str) -> str:
    """Why the answer to `known` may not answer `asked`; "" where nothing speaks against it.

    One of `number`, `negation`, `unit`, `name`, `direction`.
    """
    words, known_words = _words(asked), _words(known)
    if _numbers(asked, words) != _numbers(known, known_words):
        return "number"
    if _negated(words) != _negated(known_words):
        return "negation"
    units, known_units = _units(words), _units(known_words)
    if sorted(set(units)) != sorted(set(known_units)):
        return "unit"
    if not (_marked(asked) <= _everything(known) and _marked(known) <= _everything(asked)):
        return "name"
    if _opposed(frozenset(words), frozenset(known_words)) or _swapped(words, known_words):
        return "direction"
    return ""


def _words(text: str) -> list[str]:
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def _numbers(text: str, words: Iterable[str]) -> list[str]:
    found = [number.lower().rstrip("stndrh").lstrip("+").replace(",", "") for number in _NUMBER.findall(text)]
    return sorted(found + [_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS and word != "one"])


def _negated(words: Iterable[str]) -> bool:
    return sum(word in _NEGATIONS or word.endswith("n't") for word in words) % 2 == 1


def _units(words: Iterable[str]) -> list[str]:
    return [_UNITS[word] for word in words if word in _UNITS]


def _marked(text: str) -> frozenset[str]:
    """Words that the text itself marks as names: capitalised within a sentence, in quotes, or spelt like code."""
    starts = {found.start(1) for found in _SENTENCE_START.finditer(text)}
    capitals = [
        found.group().lower()
        for found in _WORD.finditer(text)
        if found.group()[0].isupper() and found.group() != "I" and not found.group().startswith(("I'", "I’"))
        and (found.start() not in starts or found.group()[1:].lower() != found.group()[1:])
    ]  # fmt: skip
    quoted = [word for groups in _QUOTED.findall(text) for word in _words(" ".join(groups))]
    code = [word for found in _CODE.finditer(text) for word in [found.group().lower().strip(".-")]]
    return frozenset(_stem(word) for word in (*capitals, *quoted, *code))


def _everything(text: str) -> frozenset[str]:
    return frozenset(map(_stem, _words(text))) | _marked(text)


def _stem(word: str) -> str:
    return re.sub(r"'s$", "", word)


def _opposed(words: frozenset[str], known: frozenset[str]) -> bool:
    """Whether one text has a word, the other its opposite, and neither has both."""
    for one, other in _OPPOSITES:
        here, there = (bool(words & one), bool(words & other)), (bool(known & one), bool(known & other))
        if here != there and (here[0] and there[1] or here[1] and there[0]):
            return True
    return False


def _swapped(words: Sequence[str], known: Sequence[str]) -> bool:
    """Whether what both texts say stands in another order around words that give a direction."""
    directed = [word for word in words if word in _DIRECTED]
    if not directed or not set(directed) & set(known):
        return False
    shared = set(words) & set(known) - _DIRECTED
    return any(
        _sides(words, word, shared) and _crossed(_sides(words, word, shared), _sides(known, word, shared))
        for word in set(directed) & set(known)
    )


def _sides(words: Sequence[str], around: str, of: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    place = words.index(around)
    return frozenset(words[:place]) & of, frozenset(words[place + 1 :]) & of


def _crossed(here: tuple[frozenset[str], frozenset[str]], there: tuple[frozenset[str], frozenset[str]]) -> bool:
    return bool(here[0] & there[1]) and bool(here[1] & there[0])
