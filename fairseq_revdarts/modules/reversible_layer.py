"""The multi-split reversible layer: its coupling, and the inverse.

The stream of width d is split along the channels into n parts. A layer computes (Zhao et al. 2021,
"multi-split reversible network", as reported)

    Y_k = X_k + G_k(H_k)        H_k = pool(X_{k+1}, ..., X_n, Y_1, ..., Y_{k-1})        k = 1..n

so that, from k = n down to 1, its inputs follow from its outputs:

    X_k = Y_k - G_k(H_k)

With n = 2 this is the coupling of RevNet (Gomez et al. 2017). The parts are held in one list,
`streams`, whose place k is replaced at step k: the other places hold exactly what G_k reads, both
on the way forward and on the way back.

The same holds for the gradients. When the backward comes to step k, all of dL/dY_k is there,
because only later steps read Y_k. It is the gradient of X_k as well, to which earlier steps add.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Callable, ContextManager, Dict, List, Optional, Sequence

import torch
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
    total = reduce(torch.add, inputs)
    return total / len(inputs) if len(inputs) > 1 else total


POOLING: Dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "max": max_pooling,
    "avg": average_pooling,
}


class ReversibleLayer(nn.Module):
    """One multi-split reversible layer: a node for each split.

    Args:
        number: the layer's place in its stack, from 0
        cell_layers: s; layer `number` has row `number mod s` of the mixture
        operations: for each split, the candidate operations of its node
        pooling: "max" or "avg"
        settings: the settings of the candidate operations
    """

    def __init__(
        self,
        number: int,
        cell_layers: int,
        operations: Sequence[Sequence[Optional[str]]],
        pooling: str,
        settings: OperationSettings,
    ):
        super().__init__()
        self.cell_row = number % cell_layers
        self.first_node = number * len(operations)
        self.pool = POOLING[pooling]
        self.nodes = nn.ModuleList(MixedOperation(names, settings) for names in operations)

    def couplings(
        self, context: Context, mixture: Optional[Mixture], call: CallState
    ) -> List["Coupling"]:
        """The layer's n steps in one call of its stack.

        Args:
            context: what the operations read in addition to H
            mixture: the stack's active candidates; None in a derived network
            call: the state of this call
        """
        return [
            Coupling(
                self,
                k,
                context,
                SINGLE if mixture is None else mixture.node(self.cell_row, k),
                call,
            )
            for k in range(len(self.nodes))
        ]


@dataclass(frozen=True)
class Coupling:
    """Step k of a layer in one call, forwards and backwards.

    Args:
        layer: the layer
        k: the part of the stream that the step replaces, from 0
        context: what the operations read in addition to H
        mixture: the node's active candidates and their probabilities
        call: the state of this call
    """

    layer: ReversibleLayer
    k: int
    context: Context
    mixture: NodeMixture
    call: CallState

    @property
    def splits(self) -> int:
        """n."""
        return len(self.layer.nodes)

    @property
    def node(self) -> MixedOperation:
        """G_k."""
        return self.layer.nodes[self.k]

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Y_k = X_k + G_k(H_k), from Y_1, ..., Y_{k-1}, X_k, ..., X_n: all (T, B, d/n)."""
        with self._state():
            h = self.layer.pool(others(streams, self.k)).to(self.call.dtype)
            return streams[self.k] + self.node(h, self.context, self.mixture)

    def reverse(
        self,
        streams: List[Tensor],
        grads: List[Optional[Tensor]],
        needed: Sequence[bool],
        gradients: Gradients,
    ) -> None:
        """Turn Y_k into X_k, and dL/dY_k into dL/dX_k and what G_k adds to the others, in place.

        Args:
            streams: Y_1, ..., Y_k, X_{k+1}, ..., X_n: all (T, B, d/n)
            grads: for each of these the gradient so far, or None; of Y_k it is complete
            needed: for each part, whether it needs a gradient
            gradients: of p, the encoder's output and the weights, added to in place
        """
        grad = grads[self.k].contiguous()
        places = (j for j in range(len(streams)) if j != self.k)
        inputs = {j: streams[j].detach().requires_grad_(needed[j]) for j in places}
        wanted = {j: part for j, part in inputs.items() if part.requires_grad}
        with self._state():
            with torch.enable_grad():
                pooled = self.layer.pool(list(inputs.values()))
            h = pooled.detach().to(self.call.dtype).requires_grad_(bool(wanted))
            if wanted:
                gradients[h] = torch.zeros_like(grad)  # in the precision of the stream
            output = self.node.recompute_and_backward(
                h, grad, self.context, self.mixture, gradients
            )
            streams[self.k] = streams[self.k] - output
            if wanted:
                found = torch.autograd.grad(pooled, list(wanted.values()), gradients[h])
                for j, gradient in zip(wanted, found):
                    grads[j] = gradient if grads[j] is None else gradient + grads[j]

    def _state(self) -> ContextManager[None]:
        return self.call.restored(self.layer.first_node + self.k)


def others(streams: Sequence[Tensor], k: int) -> List[Tensor]:
    """All parts of the stream but part `k`."""
    return [*streams[:k], *streams[k + 1 :]]
