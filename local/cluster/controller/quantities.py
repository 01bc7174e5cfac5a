"""Kubernetes quantities as numbers, such as `250m`, `512Mi` or `1.5`."""

from decimal import Decimal

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def parse(quantity: str | float) -> Decimal:
    """A quantity in its base unit: cores, bytes or pieces. Raises ValueError for what is none."""
    text = str(quantity).strip()
    for length in (2, 1):
        suffix = text[-length:]
        if suffix in _SUFFIXES and len(text) > length:
            return _number(text[:-length]) * _SUFFIXES[suffix]
    return _number(text)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text!r} is no quantity") from None


def total(*parts: dict[str, Decimal]) -> dict[str, Decimal]:
    """The sum of several sets of resources."""
    result: dict[str, Decimal] = {}
    for part in parts:
        for name, amount in part.items():
            result[name] = result.get(name, Decimal(0)) + amount
    return result
