"""The question that every search strategy answers: which candidates live in an update.

Darts (darts.py), uniform sampling (sampling.py), elimination (elimination.py) and evolution
(evolution.py) are the answers. The task asks them, and knows none of them by name.
"""

from abc import ABC, abstractmethod
from typing import Callable, ClassVar, Dict, Optional, Sequence, Tuple

from torch import Tensor

from ..genotype import Genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.mixture import Subsets
from ..utils.flags import Flags
from .config import BilevelSearchConfig
from .cost import Budget

#: The candidates that calls evaluate, by side; a side that is no key evaluates all living ones.
Active = Dict[str, Subsets]
ALL_LIVING: Active = {}
#: From paths to their losses on the first N batches of alpha's share: what `measure_paths` returns.
Measure = Callable[[Sequence[Genotype], int], Tensor]
#: Learning rate and weight decay of alpha (Zhao et al. 2021, as reported).
OF_PAPER = (3e-4, 1e-3)


class Strategy(ABC):
    """Which candidates are active in an update, and what is decided after it.

    Updates are numbered from 1. All answers are functions of the update, --seed and the state of
    alpha: so all processes give the same ones, and so does a resumed search.

    Args:
        model: the supernet, without distributed wrappers
        cfg: the flags of the search
        budget: that the network found has to keep; or None
    """

    #: Flags from which the schedule follows; with other values, a resumed search goes on otherwise.
    schedule: ClassVar[Flags] = {}
    #: Whether alpha is trained, so that a budget can steer it.
    trains_alpha: ClassVar[bool] = True
    #: Whether updates leave living candidates without a gradient.
    leaves_idle: ClassVar[bool] = True

    def __init__(
        self,
        model: RevDartsTransformerModel,
        cfg: BilevelSearchConfig,
        budget: Optional[Budget] = None,
    ):
        self.model, self.cfg, self.budget = model, cfg, budget

    @classmethod  # noqa: B027  most strategies have no such flag
    def check_flags(cls, cfg: BilevelSearchConfig) -> None:
        """Raise a ValueError for a flag of this strategy that does not fit."""

    @abstractmethod
    def for_theta(self, update: int) -> Active:
        """The candidates that theta's batches of an update evaluate."""

    @abstractmethod
    def for_alpha(self, update: int) -> Optional[Active]:
        """The candidates that alpha's batches of an update evaluate; None if alpha rests."""

    @abstractmethod
    def for_validation(self) -> Active:
        """The candidates that validation evaluates."""

    @abstractmethod
    def after_update(self, update: int, measure: Measure) -> None:
        """Decide what follows from an update.

        Args:
            update: the number of the update
            measure: paths on alpha's share
        """

    @abstractmethod
    def before_checkpoint(self, measure: Measure) -> None:
        """Let alpha show the choice so far.

        Args:
            measure: paths on alpha's share
        """

    def alpha_defaults(self) -> Tuple[float, float]:
        """Learning rate and weight decay of alpha, if no flag gives them."""
        return OF_PAPER
