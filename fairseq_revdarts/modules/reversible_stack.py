"""A stack of reversible layers, and backpropagation with reconstruction.

Backpropagation with reconstruction stores the output of the last layer alone. Layer by layer, from
the top, it computes a layer's inputs from its outputs (reversible_layer.py). A step costs the
forward, one recomputation of each G_k, which serves the reconstruction and the gradient alike, and
the backward.
"""

from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .call_state import CallState
from .context import Context
from .mixed_operation import Gradients
from .mixture import Mixture
from .reversible_layer import ReversibleLayer


class ReversibleStack(nn.Module):
    """A stack of reversible layers over a stream of width d.

    Args:
        layers: its layers, all with the same number of splits
        backprop: "reconstruct" (only the last layer's outputs are stored), "checkpoint"
            (activation checkpointing, a layer at a time) or "store" (plain autograd): the same
            gradients, different memory
    """

    def __init__(self, layers: Sequence[ReversibleLayer], backprop: str):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.splits = len(layers[0].nodes)
        self.backprop = backprop
        #: Whether dropout masks are drawn in evaluation, too.
        self.retains_dropout = False
        #: While True, a backward with reconstruction leaves its error in `drift`.
        self.measures_drift = False
        self.drift: Optional[Tensor] = None

    def forward(self, x: Tensor, context: Context, mixture: Optional[Mixture] = None) -> Tensor:
        """The stream after the last layer.

        The stream is kept in at least single precision whatever the operations compute in: in half
        precision it could not be reconstructed.

        Args:
            x: (T, B, d); its dtype is the one that the operations compute in
            context: what the operations read in addition to H
            mixture: the living candidates and their probabilities; None in a derived network

        Returns:
            (T, B, d), of the dtype of `x`
        """
        call = CallState.capture(x, self.training or self.retains_dropout)
        stream = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.backprop == "reconstruct" and torch.is_grad_enabled():
            output = BackpropagateWithReconstruction.apply(
                self,
                context,
                mixture,
                call,
                stream,
                None if mixture is None else mixture.probabilities,
                context.encoder_out,
                *self.parameters(),
            )
        else:
            output = self.run(stream, context, mixture, call)
        return output.to(x.dtype)

    def make_generation_fast_(self, retain_dropout: bool = False, **unused: Any) -> None:
        """fairseq's hook before generation, for --retain-dropout."""
        self.retains_dropout = retain_dropout

    def run(
        self, stream: Tensor, context: Context, mixture: Optional[Mixture], call: CallState
    ) -> Tensor:
        """The layers one after another, with plain autograd or checkpointing; (T, B, d)."""

        def step(layer: ReversibleLayer, *parts: Tensor) -> Tuple[Tensor, ...]:
            streams = list(parts)
            with call.restored():
                layer.couple(streams, context, mixture, call)
            return tuple(streams)

        streams: Sequence[Tensor] = self.split(stream)
        checkpoints = self.backprop == "checkpoint" and torch.is_grad_enabled()
        for layer in self.layers:
            if checkpoints:  # the call's state replays the dropout masks
                streams = checkpoint(
                    step, layer, *streams, use_reentrant=False, preserve_rng_state=False
                )
            else:
                streams = step(layer, *streams)
        return torch.cat(tuple(streams), dim=-1)

    def split(self, stream: Tensor) -> List[Tensor]:
        """The n parts (T, B, d/n) of a stream (T, B, d)."""
        return list(stream.chunk(self.splits, dim=-1))

    def record_drift(self, true_input: Tensor, streams: Sequence[Tensor]) -> None:
        """Keep the relative error of the reconstructed stack input, ||X' - X|| / ||X||.

        Padded positions, whose input is zero, are left out: no gradient comes from them, and a
        LayerNorm of nearly nothing would make rounding look like drift.
        """
        real = true_input.ne(0).any(dim=-1, keepdim=True)
        error = (torch.cat(tuple(streams), dim=-1) - true_input) * real
        self.drift = error.norm() / true_input.norm()


class BackpropagateWithReconstruction(torch.autograd.Function):
    """A whole stack of reversible layers, of which only the last layer's outputs are stored.

    Weights, probabilities and the encoder's output go in as inputs and their gradients come out as
    outputs, each tensor once. So the hooks of distributed training, `torch.autograd.grad` and
    frozen tensors work as with any other operation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        stack: ReversibleStack,
        context: Context,
        mixture: Optional[Mixture],
        call: CallState,
        x: Tensor,
        probabilities: Optional[Tensor],
        encoder_out: Optional[Tensor],
        *weights: Tensor,
    ) -> Tensor:
        """The stack's output (T, B, d) for its input `x` (T, B, d)."""
        output = stack.run(x, context, mixture, call)
        ctx.stack, ctx.call, ctx.living = stack, call, mixture and mixture.living
        ctx.context = _detached(context, requires_grad=ctx.needs_input_grad[6])
        ctx.true_input = x if stack.measures_drift else None
        ctx.weights = weights  # themselves: hooks on saved tensors may give copies back
        ctx.save_for_backward(output, probabilities, *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Optional[Tensor], ...]:
        """From the stack's output upwards: reconstruct, differentiate, forget."""
        output, probabilities, *_ = ctx.saved_tensors
        needs_x, needs_alpha, needs_encoder_out, *needs_weights = ctx.needs_input_grad[4:]
        encoder_out = ctx.context.encoder_out
        gradients: Gradients = {w: None for w, needed in zip(ctx.weights, needs_weights) if needed}
        if needs_encoder_out:
            gradients[encoder_out] = None
        grad_probabilities = torch.zeros_like(probabilities) if needs_alpha else None
        mixture = ctx.living and Mixture(probabilities, ctx.living, grad_probabilities)

        # Copies: the gradients are added to in place.
        streams = ctx.stack.split(output)
        grads = [
            part.clone(memory_format=torch.contiguous_format)
            for part in ctx.stack.split(grad_output)
        ]
        with ctx.call.restored():
            for layer in reversed(ctx.stack.layers):
                layer.uncouple(streams, grads, ctx.context, mixture, gradients, ctx.call)
        if ctx.true_input is not None:
            ctx.stack.record_drift(ctx.true_input, streams)
        return (
            *(None, None, None, None),
            torch.cat(grads, dim=-1) if needs_x else None,
            grad_probabilities,
            gradients.get(encoder_out),
            *map(gradients.get, ctx.weights),
        )


def _detached(context: Context, requires_grad: bool) -> Context:
    """`context` with the encoder's output as a new leaf, detached from the encoder."""
    if context.encoder_out is None:
        return context
    leaf = context.encoder_out.detach().requires_grad_(requires_grad)
    return replace(context, encoder_out=leaf)
