"""A GPU's memory, as the driver and PyTorch's allocator tell it."""

import gc
import importlib
from typing import Any


class Device:
    """Where tensors go, and what the driver and PyTorch's allocator say of its memory."""

    def __init__(self, name: str) -> None:
        # PyTorch isn't installed where this project is developed, so that nothing else here may import it.
        self.torch: Any = importlib.import_module("torch")
        self.name = name
        self.is_cuda = name == "cuda"

    def total(self) -> int | None:
        """Bytes that CUDA sees."""
        return self.torch.cuda.mem_get_info()[1] if self.is_cuda else None

    def used(self) -> int | None:
        """Bytes that are not free, whoever has them."""
        if not self.is_cuda:
            return None
        free, total = self.torch.cuda.mem_get_info()
        return total - free

    def requested(self) -> int | None:
        """Bytes that tensors asked for."""
        return self._statistic("requested_bytes.all.current")

    def allocated(self) -> int | None:
        """Bytes that tensors have been given: the allocator rounds up, and leaves no rest below 1 MiB."""
        return self._statistic("allocated_bytes.all.current")

    def peak(self) -> int | None:
        """The most that `allocated` was since `clear`."""
        return self._statistic("allocated_bytes.all.peak")

    def _statistic(self, key: str) -> int | None:
        return int(self.torch.cuda.memory_stats().get(key, 0)) if self.is_cuda else None

    def clear(self) -> None:
        """Frees what nobody refers to any more, and starts a new peak."""
        gc.collect()
        if self.is_cuda:
            self.torch.cuda.synchronize()
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()
