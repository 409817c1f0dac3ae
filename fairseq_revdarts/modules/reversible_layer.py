"""The multi-split reversible layer: its coupling, and the inverse.

The stream of width d is split along the channels into n parts. A layer computes (Zhao et al. 2021,
"multi-split reversible network", as reported)

    Y_k = X_k + G_k(H_k)        H_k = N(pool(X_{k+1}, ..., X_n, Y_1, ..., Y_{k-1}))        k = 1..n

with N a normalization, so that, from k = n down to 1, its inputs follow from its outputs:

    X_k = Y_k - G_k(H_k)

With n = 2 this is the coupling of RevNet (Gomez et al. 2017). The parts are held in one list,
`streams`, whose place k is replaced at step k: the other places hold exactly what G_k reads, both
on the way forward and on the way back.

The gradients are held in one list too. When the backward comes to part k, its place holds all of
dL/dY_k. G_k adds its contributions to the other places, and what stands at k in the end is dL/dX_k.
"""

from functools import reduce
from typing import Callable, Dict, List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .call_state import CallState
from .context import Context, OperationSettings
from .mixed_operation import Gradients, MixedOperation
from .mixture import SINGLE, Mixture, NodeMixture


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
    """One multi-split reversible layer: a node for each split.

    Each node adds a vector of LayerNorm's length to its part of the stream, mostly a copy of its
    input, so the stream grows with every layer. Without normalization it saturates attention from
    the start, because the logits grow with its square. Nodes therefore read it normalized.

    Args:
        number: the layer's place in its stack, from 0
        cell_layers: s; layer `number` has row `number mod s` of the mixture
        operations: for each split, the candidate operations of its node
        pooling: "max" or "avg"
        node_input: "normalized", or "pooled" alone
        settings: the settings of the candidate operations
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

    def couple(
        self,
        streams: List[Tensor],
        context: Context,
        mixture: Optional[Mixture],
        call: CallState,
    ) -> None:
        """Turn the layer's inputs X into its outputs Y, in place.

        Args:
            streams: n parts of shape (T, B, d/n)
            context: what the operations read in addition to H
            mixture: the stack's living candidates; None in a derived network
            call: the state of this forward
        """
        for k, node in enumerate(self.nodes):
            call.seed_node(self.first_node + k)
            h = self.node_input(_others(streams, k)).to(call.dtype)
            streams[k] = streams[k] + node(h, context, self._mixture_of(k, mixture))

    def uncouple(
        self,
        streams: List[Tensor],
        grads: List[Tensor],
        context: Context,
        mixture: Optional[Mixture],
        gradients: Gradients,
        call: CallState,
    ) -> None:
        """Turn the layer's outputs Y into its inputs X, and dL/dY into dL/dX, in place.

        Args:
            streams, context, mixture, call: as in `couple`
            grads: n parts of shape (T, B, d/n)
            gradients: of weights and the encoder's output, added to in place
        """
        for k in reversed(range(len(streams))):
            inputs = [part.detach().requires_grad_() for part in _others(streams, k)]
            with torch.enable_grad():
                h = self.node_input(inputs)
            call.seed_node(self.first_node + k)
            output, grad_h = self.nodes[k].recompute_and_backward(
                h.detach().to(call.dtype),
                grads[k],
                context,
                self._mixture_of(k, mixture),
                gradients,
            )
            streams[k] = streams[k] - output
            grad_inputs = iter(torch.autograd.grad(h, inputs, grad_h))
            for j in range(len(grads)):
                if j != k:
                    grads[j] += next(grad_inputs)

    def node_input(self, streams: Sequence[Tensor]) -> Tensor:
        """H of a node, from all other parts of the stream: all (T, B, C)."""
        pooled = self.pool(streams)
        return F.layer_norm(pooled, pooled.shape[-1:]) if self.normalizes else pooled

    def _mixture_of(self, k: int, mixture: Optional[Mixture]) -> NodeMixture:
        """The part of node `k`; layers in the same place of a cell share it."""
        return SINGLE if mixture is None else mixture.node(self.cell_row, k)


def _others(streams: List[Tensor], k: int) -> List[Tensor]:
    return streams[:k] + streams[k + 1 :]
