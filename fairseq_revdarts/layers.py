"""Reversible layers and their stack: pooling, nodes, and the three ways of backpropagation."""

from functools import reduce
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .context import Context, OperationSettings
from .mixed_op import MixedOperation
from .recompute import CallState
from .reversible import BackpropagateWithReconstruction, couple


def max_pooling(inputs: Sequence[Tensor]) -> Tensor:
    """Elementwise maximum of tensors of one shape."""
    return reduce(torch.maximum, inputs)


def average_pooling(inputs: Sequence[Tensor]) -> Tensor:
    """Elementwise mean of tensors of one shape."""
    return reduce(torch.add, inputs) / len(inputs)


POOLING: Dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "max": max_pooling,
    "avg": average_pooling,
}


class ReversibleLayer(nn.Module):
    """One multi-split reversible layer: a node for each split, and what it reads.

    Each node adds a vector of LayerNorm's length to its stream, mostly a copy of what it read: the
    stream grows with every layer. Read as it is, it saturates attention from the start (the logits
    grow with its square), so a node reads it normalised.

    Args:
        number: the layer's place in its stack, from 0
        cell_layers: s; layer `number` reads row `number mod s` of the probabilities
        operations: for each split, the candidate operations of its node
        pooling: "max" or "avg"
        node_input: "normalized", or "pooled" alone
        settings: what the operations are built from
    """

    def __init__(
        self,
        number: int,
        cell_layers: int,
        operations: Sequence[Sequence[str]],
        pooling: str,
        node_input: str,
        settings: OperationSettings,
    ):
        super().__init__()
        self.cell_row = number % cell_layers
        self.first_node = number * len(operations)
        self.pool = POOLING[pooling]
        self.normalizes = node_input == "normalized"
        self.nodes = nn.ModuleList(MixedOperation(names, settings) for names in operations)

    def node_input(self, streams: Sequence[Tensor]) -> Tensor:
        """H of a node, from all other parts of the stream: all (T, B, C)."""
        pooled = self.pool(streams)
        return F.layer_norm(pooled, pooled.shape[-1:]) if self.normalizes else pooled

    def own(self, table: Optional[Tensor]) -> Optional[Tensor]:
        """This layer's part of `table`, (s, ...): consecutive blocks of s layers share it."""
        return None if table is None else table[self.cell_row]


class ReversibleStack(nn.Module):
    """A stack of reversible layers over a stream of width d.

    Args:
        layers: its layers, of the same number of splits
        backprop: "reconstruct" (only the last layer's outputs are stored), "checkpoint"
            (activation checkpointing, a layer at a time) or "store" (plain autograd): the same
            gradients, different memory
    """

    def __init__(self, layers: Sequence[ReversibleLayer], backprop: str):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.splits = len(layers[0].nodes)
        self.backprop = backprop
        #: While True, a backward with reconstruction leaves its error in `drift`.
        self.measures_drift = False
        self.drift: Optional[Tensor] = None

    def forward(
        self, x: Tensor, context: Context, probabilities: Optional[Tensor] = None
    ) -> Tensor:
        """The stream after the last layer.

        The stream is kept in at least single precision whatever the operations compute in: in half
        precision it could not be reconstructed.

        Args:
            x: (T, B, d); its dtype is what the operations compute in
            context: what the operations read beside H
            probabilities: (s, searched splits, candidates); None in a derived network

        Returns:
            (T, B, d), of the dtype of `x`
        """
        call = CallState.capture(x, self.training)
        stream = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.backprop == "reconstruct" and torch.is_grad_enabled():
            output = BackpropagateWithReconstruction.apply(
                self, context, call, stream, probabilities, context.encoder_out, *self.parameters()
            )
        else:
            output = self.run(stream, context, probabilities, call)
        return output.to(x.dtype)

    def run(
        self, stream: Tensor, context: Context, probabilities: Optional[Tensor], call: CallState
    ) -> Tensor:
        """The layers one after another, with plain autograd or checkpointing; (T, B, d)."""

        def step(layer: ReversibleLayer, *parts: Tensor) -> Tuple[Tensor, ...]:
            streams = list(parts)
            with call.restored():
                couple(layer, streams, context, layer.own(probabilities), call)
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
