"""How large a model is, from its state dict."""

import re
from typing import Dict, List, Mapping

import torch
from torch import Tensor

#: Endings of the names of markers that are no parameters.
MARKERS = ("version", "_float_tensor")
#: Endings of the names under which fairseq's models share one matrix.
EMBEDDINGS = ("embed_tokens.weight", "decoder.output_projection.weight")
#: What fairseq 0.12.2 adds to each of its encoder layers: copies for inference, never trained.
COPY = re.compile(r"\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$")


def is_copy(name: str) -> bool:
    """Whether a weight of one of fairseq's models is no parameter but a copy of one."""
    return COPY.search(name) is not None


def count_parameters(weights: Mapping[str, Tensor]) -> int:
    """Parameters in a state dict; those that are shared, as embeddings can be, count once.

    What is shared has the same memory. In a checkpoint that was written on a GPU it has not, since
    fairseq copies each name to the CPU for itself: there, embeddings are shared if they are equal.
    """
    distinct: Dict[int, int] = {}
    embeddings: List[Tensor] = []
    for name, weight in weights.items():
        if name.endswith(MARKERS) or is_copy(name):
            continue
        if name.endswith(EMBEDDINGS):
            if any(torch.equal(weight, other) for other in embeddings):
                continue
            embeddings.append(weight)
        distinct[weight.data_ptr()] = weight.numel()
    return sum(distinct.values())
