"""A meter of live memory: the bytes of the tensors alive at any time, on any device."""

import itertools
import weakref
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LiveMemory(TorchDispatchMode):
    """Sees every storage that is allocated and freed within the context, on this thread.

    What an operator allocates and frees within itself is not seen; what was alive before, such as
    `existing`, does not count.

    Args:
        existing: tensors that are not to be counted, even where an operator returns them
    """

    def __init__(self, existing: Iterable[Tensor] = ()):
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in existing}
        self._clock = 0
        self._alive: Dict[int, Tuple[int, int, Any]] = {}
        self._freed: List[Tuple[int, int, int]] = []

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Tuple = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Run the operator and note the storages of its outputs."""
        output = func(*args, **(kwargs or {}))
        self._clock += 1
        for tensor in tree_flatten(output)[0]:
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return output

    def peak(self, leave_out: Iterable[Tensor] = ()) -> int:
        """Most bytes alive at once, without the storages of the tensors in `leave_out`.

        Args:
            leave_out: tensors that are still alive, such as the weights' gradients
        """
        left_out = {tensor.untyped_storage()._cdata for tensor in leave_out}
        lasting = [entry for key, entry in self._alive.items() if key not in left_out]
        changes = [(birth, size) for birth, size, _ in lasting]
        for birth, death, size in self._freed:
            changes += [(birth, size), (death, -size)]
        # At one tick of the clock, the sizes sort what is freed before what is allocated.
        return max(itertools.accumulate(size for _, size in sorted(changes)), default=0)

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known and key not in self._alive:
            death = weakref.ref(storage, lambda _: self._bury(key))
            self._alive[key] = (self._clock, storage.nbytes(), death)

    def _bury(self, key: int) -> None:
        birth, size, _ = self._alive.pop(key)
        self._freed.append((birth, self._clock + 1, size))
