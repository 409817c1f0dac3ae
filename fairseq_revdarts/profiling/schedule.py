"""What a search strategy evaluates over the length of a search, at moments that a profile times."""

from typing import Iterator, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from ..genotype import Genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search.config import BilevelSearchConfig
from ..search.gradient_buffer import GradientBuffer
from ..search.strategies import BY_NAME
from ..search.strategy import Active, Strategy
from .measure import Steps
from .workload import Workload

#: A profile times a search of so many updates, with the schedule of a long one.
MOMENTS = 20


class Moment(NamedTuple):
    """The candidates that one update evaluates; `alpha` is None if alpha rests."""

    theta: Active
    alpha: Optional[Active]


def schedule_of(strategy: str, model: RevDartsTransformerModel, seed: int) -> List[Moment]:
    """A short search by `strategy` with alpha's first values; all candidates live after it."""
    cfg = BilevelSearchConfig(search_strategy=strategy, max_update=MOMENTS, seed=seed)
    schedule = list(moments_of(BY_NAME[strategy](model, cfg)))
    model.architecture.reset_updates()
    return schedule


def moments_of(rule: Strategy) -> Iterator[Moment]:
    """What `rule` evaluates in each update of a search of MOMENTS updates."""
    for update in range(1, MOMENTS + 1):
        yield Moment(rule.for_theta(update), rule.for_alpha(update))
        rule.after_update(update, all_equal)


def all_equal(paths: Sequence[Genotype], count: int) -> Tensor:
    """Losses of paths, for a profile, in which nothing is measured."""
    return torch.zeros(len(paths), count)


class ScheduledSteps(Steps):
    """The steps of a search by a strategy. Memory is that of a moment at which alpha moves.

    Args:
        workload: batch, precision and device
        model: the supernet
        strategy: the name of one
        gradients: as in `Steps`
    """

    def __init__(
        self,
        workload: Workload,
        model: RevDartsTransformerModel,
        strategy: str,
        gradients: GradientBuffer,
    ):
        super().__init__(workload, model, gradients=gradients)
        self._schedule = schedule_of(strategy, model, workload.seed)
        self._moment = next((m for m in self._schedule if m.alpha is not None), self._schedule[0])

    def theta(self) -> None:
        """As in `Steps`, of the candidates that live."""
        with self.model.architecture.restricted_to(self._moment.theta):
            super().theta()

    def alpha(self) -> None:
        """As in `Steps`, of the candidates that live; nothing while alpha rests."""
        if self._moment.alpha is not None:
            with self.model.architecture.restricted_to(self._moment.alpha):
                super().alpha()

    def moments(self) -> Iterator[None]:
        """All of the schedule, one after another."""
        usual = self._moment
        for moment in self._schedule:
            self._moment = moment
            yield
        self._moment = usual
