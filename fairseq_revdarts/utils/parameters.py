"""How large a model is, from its state dict."""

from typing import Mapping

from torch import Tensor

#: Endings of the names of markers that are no parameters.
MARKERS = ("version", "_float_tensor")


def count_parameters(weights: Mapping[str, Tensor]) -> int:
    """Parameters in a state dict; those that share their memory, as embeddings do, count once."""
    distinct = {
        weight.data_ptr(): weight.numel()
        for name, weight in weights.items()
        if not name.endswith(MARKERS)
    }
    return sum(distinct.values())
