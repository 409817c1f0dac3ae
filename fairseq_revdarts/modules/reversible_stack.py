"""A stack of reversible layers, and the ways to backpropagate through it."""

from functools import partial
from typing import Any, List, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .call_state import CallState
from .context import Context
from .mixture import Mixture
from .reconstruction import run_with_reconstruction
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
            mixture: the active candidates and their probabilities; None in a derived network

        Returns:
            (T, B, d), of the dtype of `x`
        """
        nodes = [node for layer in self.layers for node in layer.nodes]
        call = CallState.capture(x, self.training or self.retains_dropout, nodes)
        stream = x.to(torch.promote_types(x.dtype, torch.float32))
        streams: Sequence[Tensor] = stream.chunk(self.splits, dim=-1)
        backprop = self.backprop if torch.is_grad_enabled() else "store"
        if backprop == "reconstruct":
            observer = partial(self.record_drift, stream) if self.measures_drift else None
            output = run_with_reconstruction(self.layers, streams, context, mixture, call, observer)
            return output.to(x.dtype)
        for layer in self.layers:
            run = partial(_run_layer, layer, context, mixture, call)
            if backprop == "checkpoint":  # the call's state replays the dropout masks
                run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
            streams = run(*streams)
        return torch.cat(tuple(streams), dim=-1).to(x.dtype)

    def make_generation_fast_(self, retain_dropout: bool = False, **unused: Any) -> None:
        """fairseq's hook before generation, for --retain-dropout."""
        self.retains_dropout = retain_dropout

    def record_drift(self, true_input: Tensor, streams: Sequence[Tensor]) -> None:
        """Keep the relative error of the reconstructed stack input, ||X' - X|| / ||X||.

        Padded positions, whose input is zero, are left out: no gradient comes from them, and a
        LayerNorm of nearly nothing would make rounding look like drift.
        """
        real = true_input.ne(0).any(dim=-1, keepdim=True)
        error = (torch.cat(tuple(streams), dim=-1) - true_input) * real
        self.drift = error.norm() / true_input.norm()


def _run_layer(
    layer: ReversibleLayer,
    context: Context,
    mixture: Optional[Mixture],
    call: CallState,
    *parts: Tensor,
) -> List[Tensor]:
    """A layer's outputs from its inputs, n parts (T, B, d/n), with plain autograd."""
    streams = list(parts)
    for step in layer.couplings(context, mixture, call):
        streams[step.k] = step.forward(streams)
    return streams
