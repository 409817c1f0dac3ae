"""Backpropagation with reconstruction: a whole stack in the activation memory of one candidate.

The steps of all layers, Y_k = X_k + G_k(H_k), form a chain, because each reads what the step before
it has written. So autograd goes back through them one by one, from the last to the first. The last
step saves the stream after it; the others save nothing. The backward of a step finds the stream as
its forward left it. It computes G_k again, which gives the gradients, and subtracts it, which gives
the stream as the step before has left it.

So a step costs its forward, one recomputation and the backward. The gradients of its weights leave
it at once: autograd adds them to those of earlier micro-batches, and distributed training sends
them, before the next step.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .call_state import CallState
from .context import Context
from .mixed_operation import Gradients
from .mixture import Mixture
from .reversible_layer import Coupling, ReversibleLayer, others

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
) -> List[Tensor]:
    """The stream after `layers`, with a graph that stores nothing else.

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
        streams[step.k] = StepWithReconstruction.apply(
            reconstruction,
            step,
            step.mixture.probabilities,
            encoder_out,
            *streams,
            *step.node.parameters(),
        )
    return streams


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
        """Y_k (T, B, d/n); `tensors` are the n parts (T, B, d/n) before it, and the weights."""
        splits = step.splits
        streams, ctx.weights = list(tensors[:splits]), tensors[splits:]
        streams[step.k] = step.forward(streams)
        ctx.reconstruction, ctx.step = reconstruction, step
        ctx.is_last = step is reconstruction.steps[-1]
        ctx.save_for_backward(*(streams if ctx.is_last else ()), *ctx.weights)
        return streams[step.k]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        """Reconstruct, differentiate, forget."""
        saved, step, reconstruction = ctx.saved_tensors, ctx.step, ctx.reconstruction
        if ctx.is_last:
            reconstruction.streams = list(saved[: step.splits])
        # The tensors themselves: hooks on saved tensors may give copies back.
        tensors = (step.mixture.probabilities, step.context.encoder_out, *ctx.weights)
        needs = ctx.needs_input_grad[2:]
        needs_streams, needs = needs[2 : 2 + step.splits], needs[:2] + needs[2 + step.splits :]
        gradients: Gradients = {tensor: None for tensor, need in zip(tensors, needs) if need}
        with _without_hooks(ctx.weights):
            grads = step.reverse(
                reconstruction.streams, grad.contiguous(), others(needs_streams, step.k), gradients
            )
        grads.insert(step.k, grad)
        if step is reconstruction.steps[0]:
            if reconstruction.observer is not None:
                reconstruction.observer(reconstruction.streams)
            reconstruction.streams = []
        of_probabilities, of_encoder_out, *of_weights = map(gradients.get, tensors)
        return (None, None, of_probabilities, of_encoder_out, *grads, *of_weights)


@contextmanager
def _without_hooks(weights: Sequence[Tensor]) -> Iterator[None]:
    """Hooks on the gradients of `weights` wait until these leave the step, and run once."""
    hooks = [weight._backward_hooks for weight in weights if weight._backward_hooks]
    waiting = [dict(of_weight) for of_weight in hooks]
    for of_weight in hooks:
        of_weight.clear()
    try:
        yield
    finally:
        for of_weight, before in zip(hooks, waiting):
            of_weight.update(before)
