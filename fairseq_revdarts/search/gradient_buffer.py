"""One piece of memory for the gradients of all weights, kept for the whole search.

fairseq frees the gradients after each update, and a backward makes them anew, in the middle of its
activations. The heap is then full of holes: long-lived gradients lie between short-lived
activations, and the process takes several times the memory of the tensors that are alive. With all
gradients in one place from the start, the activations have the rest to themselves.
"""

from typing import Iterable, List, Optional

from torch import Tensor, nn


class GradientBuffer:
    """Places for the gradients of weights, one after the other in one tensor.

    Args:
        weights: of one device and one precision, where they stay; those that require no gradient
            get no place
    """

    def __init__(self, weights: Iterable[nn.Parameter]):
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._buffer: Optional[Tensor] = None
        self._places: List[Tensor] = []

    def offer(self) -> bool:
        """Before the first backward of an update, give each weight its place, filled with zeros.

        Later in the update, when there are gradients, nothing happens. Returns whether it begins.
        """
        if any(weight.grad is not None for weight in self._weights):
            return False
        if self._buffer is None:
            sizes = [weight.numel() for weight in self._weights]
            self._buffer = self._weights[0].new_zeros(sum(sizes))
            parts = self._buffer.split(sizes)
            self._places = [part.view_as(w) for part, w in zip(parts, self._weights)]
        self._buffer.zero_()
        for weight, place in zip(self._weights, self._places):
            weight.grad = place
        return True
