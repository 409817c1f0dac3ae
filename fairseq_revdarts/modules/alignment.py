"""The alignment of source and target: cross-attention weights, which are computed when asked for.

fairseq's generators and criterions read them as `extra["attn"][0]` of a decoder's output, and
nothing says beforehand whether one will.
"""

from typing import Callable, Sequence

from torch import Tensor


class Alignment(Sequence[Tensor]):
    """fairseq's list of one tensor (B, T, S), computed anew each time that it is read.

    In incremental decoding it is read before the next step: it is that of the state as it stands.

    Args:
        compute: gives the weights, with a graph to theta in training
    """

    def __init__(self, compute: Callable[[], Tensor]):
        self._compute = compute

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        if index not in (0, -1):
            raise IndexError(index)
        return self._compute()
