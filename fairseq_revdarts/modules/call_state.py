"""What a recomputation has to find as its forward found it: seeds, autocast, training modes."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import ContextManager, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class CallState:
    """The state of one forward call of a stack, kept by the call itself.

    Each node draws its dropout masks from a separate seed, so nodes can be evaluated again in any
    order. All seeds follow from one number per call, whatever the depth.

    Args:
        device: where the operations run
        dtype: the precision that the operations compute in
        seed: the call's seed; None if nothing is drawn (evaluation)
        autocast_dtype: autocast's dtype on the device; None if autocast was off
        modes: for each node of the stack, its modules and whether they were in training; empty
            without gradients, because then nothing is computed again
    """

    device: torch.device
    dtype: torch.dtype
    seed: Optional[int]
    autocast_dtype: Optional[torch.dtype]
    modes: Sequence[Sequence[Tuple[nn.Module, bool]]]

    @classmethod
    def capture(cls, x: Tensor, training: bool, nodes: Sequence[nn.Module]) -> "CallState":
        """The state of a call of `nodes` on `x`.

        Draws one number from torch's CPU generator in training, or if a part of a node is.
        """
        modes: List[List[Tuple[nn.Module, bool]]] = []
        if torch.is_grad_enabled():
            modes = [[(module, module.training) for module in node.modules()] for node in nodes]
        training = training or any(mode for node in modes for _, mode in node)
        seed = int(torch.randint(2**62, (), device="cpu")) if training else None
        device, autocast = x.device.type, None
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            autocast = torch.get_autocast_dtype(device)
        return cls(x.device, x.dtype, seed, autocast, modes)

    @contextmanager
    def restored(self, number: int) -> Iterator[None]:
        """Run node `number` of the stack under this state; all is left as it was found."""
        modes = self.modes[number] if self.modes else ()
        changed = [module for module, training in modes if module.training != training]
        generator = None if self.seed is None else self._generator.get_state()
        _switch(changed)
        try:
            if self.seed is not None:
                self._generator.manual_seed(self.seed + number)
            with self._autocast():
                yield
        finally:
            _switch(changed)
            if generator is not None:
                self._generator.set_state(generator)

    def _autocast(self) -> ContextManager[None]:
        if not torch.amp.is_autocast_available(self.device.type):  # such as "meta"
            return nullcontext()
        # Without the cache: a cast made without gradients must not serve a call that needs them.
        return torch.autocast(
            self.device.type,
            dtype=self.autocast_dtype,
            enabled=self.autocast_dtype is not None,
            cache_enabled=False,
        )

    @property
    def _generator(self) -> torch.Generator:
        if self.device.type == "cuda":
            return torch.cuda.default_generators[self.device.index]
        return torch.default_generator


def _switch(modules: Sequence[nn.Module]) -> None:
    """From training to evaluation, or back: each module alone, without its children."""
    for module in modules:
        module.training = not module.training
