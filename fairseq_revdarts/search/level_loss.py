"""The loss of one level of the search, theta's or alpha's, over any number of batches."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LevelLoss:
    """A level's summed loss (nats) over its batches, and the number of target tokens in them."""

    loss: float
    sample_size: float

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.loss / max(self.sample_size, 1)

    def __add__(self, other: "LevelLoss") -> "LevelLoss":
        return LevelLoss(self.loss + other.loss, self.sample_size + other.sample_size)
