"""What the two backends have in common: token ids in, vectors out, in passes of inputs of like length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.model import Vectors

Ids = NDArray[np.int64]
"""Token ids or their mask: one input a row."""


class Backend(Protocol):
    """Computes vectors. One thread uses it at a time."""

    @property
    def name(self) -> str:
        """The library that computes, as metrics and logs name it."""
        ...

    @property
    def device(self) -> str:
        """Where it computes: `cpu` or `cuda`."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        ...

    def embed(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """The vector of each input, of length one. No input may be empty or longer than the model reads."""
        ...


@dataclass(frozen=True, slots=True)
class Passes:
    """How inputs are divided among passes. A pass computes each of its rows at the length of its longest."""

    tokens: int
    """Most tokens of a pass, padding included: they bound its memory."""
    stretch: float
    """Most tokens for each real one: padding is computed for nothing."""
    slack: int
    """Tokens of padding that are never worth another pass, which takes time whatever it holds."""

    def divide(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """The numbers of the inputs of each pass, for inputs of these lengths."""
        chosen: list[int] = []
        real = 0
        for index in sorted(range(len(lengths)), key=lengths.__getitem__):
            # The shortest come first, so this one is the longest of its pass.
            size = (len(chosen) + 1) * lengths[index]
            real += lengths[index]
            if chosen and (size > self.tokens or size > self.stretch * real + self.slack):
                yield chosen
                chosen, real = [], lengths[index]
            chosen.append(index)
        if chosen:
            yield chosen


ON_CPU = Passes(tokens=4096, stretch=1.1, slack=16)
"""The attention scores of 16 inputs of 256 tokens are 50 MB."""
ON_GPU = Passes(tokens=65536, stretch=2, slack=2048)
"""Those of 256 such inputs are 0.8 GB. A pass of few tokens takes as long as its kernels' starts."""


def in_passes(
    inputs: Sequence[Sequence[int]], passes: Passes, dimensions: int, run: Callable[[Ids, Ids], Vectors]
) -> Vectors:
    """The vectors of `inputs` in their order, computed by `run` from the ids and mask of one pass after the other."""
    result = np.empty((len(inputs), dimensions), np.float32)
    for chosen in passes.divide(list(map(len, inputs))):
        result[chosen] = run(*padded([inputs[index] for index in chosen]))
    return result


def padded(inputs: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Ids and mask of `inputs`, each row filled up to the longest one."""
    length = max(map(len, inputs))
    ids = np.zeros((len(inputs), length), np.int64)
    mask = np.zeros((len(inputs), length), np.int64)
    for row, each in enumerate(inputs):
        ids[row, : len(each)] = each
        mask[row, : len(each)] = 1
    return ids, mask
