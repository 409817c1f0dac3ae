"""The multi-split reversible coupling, and backpropagation with reconstruction.

The stream of width d is split along the channels into n parts. A layer computes (Zhao et al. 2021,
"multi-split reversible network", as reported)

    Y_k = X_k + G_k(H_k)        H_k = N(pool(X_{k+1}, ..., X_n, Y_1, ..., Y_{k-1}))        k = 1..n

with the normalisation N of layers.py, so that, from k = n down to 1, its inputs follow from its
outputs:

    X_k = Y_k - G_k(H_k)

With n = 2 this is the coupling of RevNet (Gomez et al. 2017). Held in one list, `streams`, part k
is replaced at step k: whatever the list holds at the other places is what G_k reads, on the way
forward and on the way back.

The gradients are held in one list too. When the backward comes to part k, its place holds all of
dL/dY_k; G_k's contributions go to the other places, and what stands at k at the end is dL/dX_k.

The cost of a step is the forward, one recomputation of each G_k, which serves the reconstruction
and the gradient alike, and the backward. What is kept is the output of the last layer.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .context import Context
from .mixed_op import Gradients
from .recompute import CallState

if TYPE_CHECKING:
    from .layers import ReversibleLayer, ReversibleStack


def couple(
    layer: "ReversibleLayer",
    streams: List[Tensor],
    context: Context,
    probabilities: Optional[Tensor],
    call: CallState,
) -> None:
    """Turn the inputs X of `layer` into its outputs Y, in place.

    Args:
        layer: the layer
        streams: n parts of shape (T, B, d/n)
        context: what the operations read beside H
        probabilities: (searched splits, candidates); None in a derived network
        call: the state of this forward
    """
    for k, node in enumerate(layer.nodes):
        call.seed_node(layer.first_node + k)
        h = layer.node_input(_others(streams, k)).to(call.dtype)
        streams[k] = streams[k] + node(h, context, _row(probabilities, k))


def uncouple(
    layer: "ReversibleLayer",
    streams: List[Tensor],
    grads: List[Tensor],
    context: Context,
    probabilities: Optional[Tensor],
    grad_probabilities: Optional[Tensor],
    gradients: Gradients,
    call: CallState,
) -> None:
    """Turn the outputs Y of `layer` into its inputs X, and dL/dY into dL/dX, in place.

    Args:
        layer, streams, context, probabilities, call: as in `couple`
        grads: n parts of shape (T, B, d/n)
        grad_probabilities: as `probabilities`, added to in place; None if alpha needs no gradient
        gradients: of weights and the encoder's output, added to in place
    """
    for k in reversed(range(len(streams))):
        inputs = [part.detach().requires_grad_() for part in _others(streams, k)]
        with torch.enable_grad():
            h = layer.node_input(inputs)
        call.seed_node(layer.first_node + k)
        output, grad_h = layer.nodes[k].recompute_and_backward(
            h.detach().to(call.dtype),
            grads[k],
            context,
            _row(probabilities, k),
            _row(grad_probabilities, k),
            gradients,
        )
        streams[k] = streams[k] - output
        grad_inputs = iter(torch.autograd.grad(h, inputs, grad_h))
        for j in range(len(grads)):
            if j != k:
                grads[j] += next(grad_inputs)


class BackpropagateWithReconstruction(torch.autograd.Function):
    """A whole stack of reversible layers, of which only the last layer's outputs are stored.

    Weights, probabilities and the encoder's output go in as inputs and their gradients come out as
    outputs, each tensor once: so distributed training's hooks, `torch.autograd.grad` and frozen
    tensors work as with any other operation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        stack: "ReversibleStack",
        context: Context,
        call: CallState,
        x: Tensor,
        probabilities: Optional[Tensor],
        encoder_out: Optional[Tensor],
        *weights: Tensor,
    ) -> Tensor:
        """The stack's output (T, B, d) for its input `x` (T, B, d)."""
        output = stack.run(x, context, probabilities, call)
        ctx.stack, ctx.call = stack, call
        ctx.context = _detached(context, requires_grad=ctx.needs_input_grad[5])
        ctx.true_input = x if stack.measures_drift else None
        ctx.weights = weights  # themselves: hooks on what is saved may give copies back
        ctx.save_for_backward(output, probabilities, *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Optional[Tensor], ...]:
        """From the stack's output upwards: reconstruct, differentiate, forget."""
        output, probabilities, *_ = ctx.saved_tensors
        needs_x, needs_alpha, needs_encoder_out, *needs_weights = ctx.needs_input_grad[3:]
        encoder_out = ctx.context.encoder_out
        gradients: Gradients = {w: None for w, needed in zip(ctx.weights, needs_weights) if needed}
        if needs_encoder_out:
            gradients[encoder_out] = None
        grad_probabilities = torch.zeros_like(probabilities) if needs_alpha else None

        # Copies of their own: the gradients are added to in place.
        streams = ctx.stack.split(output)
        grads = [
            part.clone(memory_format=torch.contiguous_format)
            for part in ctx.stack.split(grad_output)
        ]
        with ctx.call.restored():
            for layer in reversed(ctx.stack.layers):
                uncouple(
                    layer,
                    streams,
                    grads,
                    ctx.context,
                    layer.own(probabilities),
                    layer.own(grad_probabilities),
                    gradients,
                    ctx.call,
                )
        if ctx.true_input is not None:
            ctx.stack.record_drift(ctx.true_input, streams)
        return (
            None,
            None,
            None,
            torch.cat(grads, dim=-1) if needs_x else None,
            grad_probabilities,
            gradients.get(encoder_out),
            *map(gradients.get, ctx.weights),
        )


def _others(streams: List[Tensor], k: int) -> List[Tensor]:
    return streams[:k] + streams[k + 1 :]


def _row(table: Optional[Tensor], k: int) -> Optional[Tensor]:
    """Row k of a table that has one for each searched split; None for the others."""
    return table[k] if table is not None and k < len(table) else None


def _detached(context: Context, requires_grad: bool) -> Context:
    """`context` with the encoder's output as a leaf of its own."""
    if context.encoder_out is None:
        return context
    leaf = context.encoder_out.detach().requires_grad_(requires_grad)
    return replace(context, encoder_out=leaf)
