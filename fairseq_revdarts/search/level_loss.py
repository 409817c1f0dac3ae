"""The loss of one level of the search, theta's or alpha's, over any number of batches."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class LevelLoss:
    """Sums over the batches of a level; losses in nats.

    Args:
        loss: with label smoothing
        sample_size: target tokens, or sentences with --sentence-avg
        nll_loss: without label smoothing, of alpha's level alone: fairseq logs theta's
        tokens: target tokens, for `nll_loss`
    """

    loss: float
    sample_size: float
    nll_loss: float = 0.0
    tokens: float = 0.0

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.loss / max(self.sample_size, 1)

    @property
    def mean_nll(self) -> float:
        """Nats per token, without label smoothing."""
        return self.nll_loss / max(self.tokens, 1)

    def __add__(self, other: "LevelLoss") -> "LevelLoss":
        return LevelLoss(*(one + more for one, more in zip(astuple(self), astuple(other))))
