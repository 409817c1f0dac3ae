"""The loss of one level of the search, theta's or alpha's, over any number of batches."""

from typing import NamedTuple, Union

import torch
from torch import Tensor

#: A number; or until the end of an update a scalar on the device, which nothing waits for.
Sum = Union[float, Tensor]


class LevelLoss(NamedTuple):
    """Sums over the batches of a level; losses in nats.

    Args:
        loss: with label smoothing
        sample_size: target tokens, or sentences with --sentence-avg
        nll_loss: without label smoothing, of alpha's level alone: fairseq logs theta's
        tokens: target tokens, for `nll_loss`
    """

    loss: Sum
    sample_size: Sum
    nll_loss: Sum = 0.0
    tokens: Sum = 0.0

    @property
    def mean(self) -> float:
        """Nats per token, or per sentence with --sentence-avg."""
        return self.loss / max(self.sample_size, 1)

    @property
    def mean_nll(self) -> float:
        """Nats per token, without label smoothing."""
        return self.nll_loss / max(self.tokens, 1)

    def __add__(self, other: "LevelLoss") -> "LevelLoss":
        return LevelLoss(*(one + more for one, more in zip(self, other)))


def exact(number: Sum) -> Tensor:
    """A scalar in double precision, where it is: sums are as exact as those of numbers."""
    return torch.as_tensor(number, dtype=torch.float64)
