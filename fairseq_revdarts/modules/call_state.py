"""The dropout masks and the autocast state of a forward, for its recomputation."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, Optional

import torch
from torch import Tensor


@dataclass(frozen=True)
class CallState:
    """The random and autocast state of one forward call, kept by the call itself.

    Each node draws its dropout masks from a separate seed, so nodes can be evaluated again in any
    order. All seeds follow from one number per call, whatever the depth.

    Args:
        device: where the operations run
        dtype: the precision that the operations compute in
        seed: the call's seed; None if nothing is drawn (evaluation)
        autocast_dtype: autocast's dtype on the device; None if autocast was off
    """

    device: torch.device
    dtype: torch.dtype
    seed: Optional[int]
    autocast_dtype: Optional[torch.dtype]

    @classmethod
    def capture(cls, x: Tensor, training: bool) -> "CallState":
        """The state of a call on `x`; draws one number from torch's CPU generator in training."""
        seed = int(torch.randint(2**62, ())) if training else None
        device = x.device.type
        autocast = torch.is_autocast_enabled(device)
        return cls(x.device, x.dtype, seed, torch.get_autocast_dtype(device) if autocast else None)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Run operations under this state; the generator is left as it was found."""
        # Without the cache: a cast made without gradients must not serve a call that needs them.
        autocast = torch.autocast(
            self.device.type,
            dtype=self.autocast_dtype,
            enabled=self.autocast_dtype is not None,
            cache_enabled=False,
        )
        with autocast:
            if self.seed is None:
                yield
                return
            state = self._generator.get_state()
            try:
                yield
            finally:
                self._generator.set_state(state)

    def seed_node(self, number: int) -> None:
        """Make node `number` of the stack draw the masks it drew in the forward."""
        if self.seed is not None:
            self._generator.manual_seed(self.seed + number)

    @property
    def _generator(self) -> torch.Generator:
        if self.device.type == "cuda":
            return torch.cuda.default_generators[self.device.index]
        return torch.default_generator
