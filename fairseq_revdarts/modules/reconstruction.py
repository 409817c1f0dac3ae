"""Backpropagation with reconstruction: a whole stack in the activation memory of one candidate.

The steps of all layers, Y_k = X_k + G_k(H_k), form a chain, because each reads what the step before
it has written. So autograd goes back through them one by one, from the last to the first. The last
step saves the stack's output; the others save nothing. The backward of a step finds the stream as
its forward left it. It computes G_k again, which gives the gradients, and subtracts it, which gives
the stream as the step before has left it.

So a step costs its forward, one recomputation and the backward. The gradients of its weights leave
it at once: autograd adds them to those of earlier micro-batches, and distributed training sends
them, before the next step.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .call_state import CallState
from .context import Context
from .mixed_operation import Gradients
from .mixture import Mixture
from .reversible_layer import Coupling, ReversibleLayer

#: Is given the stack's reconstructed input, n parts (T, B, d/n).
Observer = Callable[[Sequence[Tensor]], None]


@dataclass
class Reconstruction:
    """One call of a stack: its steps, and the stream on its way back through them.

    Args:
        steps: of all layers, in the order of the forward
        observer: called at the end of a backward; or None
        streams: in a backward, n parts (T, B, d/n) as the next step's forward left them
    """

    steps: List[Coupling]
    observer: Optional[Observer]
    streams: List[Tensor] = field(default_factory=list)


def run_with_reconstruction(
    layers: Sequence[ReversibleLayer],
    streams: Sequence[Tensor],
    context: Context,
    mixture: Optional[Mixture],
    call: CallState,
    observer: Optional[Observer],
) -> Tensor:
    """The output (T, B, d) of `layers`, with a graph that stores nothing else.

    Args:
        layers: of the stack
        streams: n parts (T, B, d/n)
        context, mixture, call: as in `ReversibleLayer.couplings`
        observer: is given the reconstructed `streams` at the end of a backward; or None
    """
    encoder_out = leaf = context.encoder_out
    if encoder_out is not None:  # the steps compute its gradient, and autograd takes it further
        leaf = encoder_out.detach().requires_grad_(encoder_out.requires_grad)
    context = replace(context, encoder_out=leaf)
    steps = [step for layer in layers for step in layer.couplings(context, mixture, call)]
    reconstruction, streams = Reconstruction(steps, observer), list(streams)
    for step in steps:
        output = StepWithReconstruction.apply(
            reconstruction,
            step,
            step.mixture.probabilities,
            encoder_out,
            *streams,
            *step.node.parameters(),
        )
        streams[step.k] = output
    return output


class StepWithReconstruction(torch.autograd.Function):
    """One step of a stack, Y_k = X_k + G_k(H_k), that does not store what it reads.

    Probabilities, the encoder's output and weights go in as inputs and their gradients come out as
    outputs, each tensor once. So the hooks of distributed training, `torch.autograd.grad` and
    frozen tensors work as with any other operation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        reconstruction: Reconstruction,
        step: Coupling,
        probabilities: Optional[Tensor],
        encoder_out: Optional[Tensor],
        *tensors: Tensor,
    ) -> Tensor:
        """Y_k (T, B, d/n); of the last step all parts (T, B, d), which are the stack's output.

        `tensors` are the n parts (T, B, d/n) before the step, and the weights.
        """
        streams, ctx.weights = list(tensors[: step.splits]), tensors[step.splits :]
        streams[step.k] = output = step.forward(streams)
        ctx.reconstruction, ctx.step = reconstruction, step
        ctx.is_last = step is reconstruction.steps[-1]
        if ctx.is_last:
            output = torch.cat(streams, dim=-1)
        ctx.save_for_backward(*([output] if ctx.is_last else []), *ctx.weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Optional[Tensor], ...]:
        """Reconstruct, differentiate, forget."""
        step, reconstruction, n = ctx.step, ctx.reconstruction, ctx.step.splits
        needs_p, needs_encoder_out, *needs = ctx.needs_input_grad[2:]
        grads: List[Optional[Tensor]] = [None] * n
        grads[step.k] = grad_output
        saved = ctx.saved_tensors  # reading them is what finds weights that have changed
        if ctx.is_last:
            reconstruction.streams = list(saved[0].chunk(n, dim=-1))
            grads = list(grad_output.chunk(n, dim=-1))
        # The tensors themselves: hooks on saved tensors may give copies back.
        tensors = (step.mixture.probabilities, step.context.encoder_out, *ctx.weights)
        needed = zip(tensors, (needs_p, needs_encoder_out, *needs[n:]))
        gradients: Gradients = {tensor: None for tensor, need in needed if need}
        with without_backward_hooks(ctx.weights):
            step.reverse(reconstruction.streams, grads, needs[:n], gradients)
        if step is reconstruction.steps[0]:
            if reconstruction.observer is not None:
                reconstruction.observer(reconstruction.streams)
            reconstruction.streams = []
        of_p, of_encoder_out, *of_weights = map(gradients.get, tensors)
        return (None, None, of_p, of_encoder_out, *grads, *of_weights)


@contextmanager
def without_backward_hooks(owners: Iterable[Union[Tensor, nn.Module]]) -> Iterator[None]:
    """Hooks on the gradients of `owners` wait.

    Those of weights run when their gradients leave the step, and so once.
    """
    hooks = [owner._backward_hooks for owner in owners if owner._backward_hooks]
    waiting = [dict(of_owner) for of_owner in hooks]
    for of_owner in hooks:
        of_owner.clear()
    try:
        yield
    finally:
        for of_owner, before in zip(hooks, waiting):
            of_owner.update(before)
