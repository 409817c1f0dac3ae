"""A step on the meta device: nothing is computed, but memory and arithmetic are counted exactly.

Tensors on torch's meta device have a shape and no data. So a step of any size, of the code that a
training will run, takes seconds on any machine.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.utils.flop_counter import flop_registry

from .live_memory import LiveMemory
from .measure import Steps, gradients_of

_READ_NUMBER = torch.ops.aten._local_scalar_dense.default


class Counts(NamedTuple):
    """What one step takes.

    Args:
        memory: peak of live bytes, without weights and their gradients
        flops: floating-point operations of matrix products, convolutions and attention
    """

    memory: int
    flops: int


class Rehearsal(LiveMemory):
    """Counts floating-point operations (2 per multiplication and addition) and live bytes.

    torch's FlopCounterMode counts the same, but its hooks cannot handle a backward in a backward.
    Where the model reads a number from a tensor without data, it reads 0: "is there padding?" no.
    """

    flops = 0

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Tuple = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Run the operator, and count."""
        if func is _READ_NUMBER and args[0].is_meta:
            return torch.zeros((), dtype=args[0].dtype).item()
        output = super().__torch_dispatch__(func, types, args, kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=output)
        return output


def rehearse(steps: Steps, step: Callable[[], None]) -> Counts:
    """Count what one `step` of `steps` takes; its model and its batch are on the meta device.

    Raises:
        ValueError: activations are checkpointed, which torch 2.4 cannot do on the meta device
    """
    with Rehearsal(steps.existing()) as counted:
        try:
            step()
        except AttributeError as error:
            if "attribute 'meta'" not in str(error):
                raise
            raise ValueError(
                f"--backprop checkpoint or --checkpoint-activations: torch {torch.__version__} "
                "cannot do this without computing; a later one is needed to estimate it"
            ) from error
    return Counts(counted.peak(leave_out=gradients_of(steps.model)), counted.flops)
