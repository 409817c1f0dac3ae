"""Elimination: random subsets are trained, and candidates drop out until one is left in each node.

Each update evaluates a random part of the living candidates of every node, drawn anew for theta and
for alpha: candidates that were only trained together would need each other (Bender et al. 2018).
From one share of the search to another, the number of living candidates of a node falls
geometrically from all to one, and the one with the smallest alpha goes first. So the other nodes
are decided step by step while a node still chooses (as in SGAS, Li et al. 2020), and in the end the
supernet is the derived network: there is no step of discretization to lose by.
"""

import logging
import math
import random
from typing import Any, Callable, Dict, List, Optional, Tuple

from fairseq.criterions import FairseqCriterion

from ..derivation import rows_by_node
from ..modules.mixture import Living
from ..search_space import CANDIDATES
from .config import parse_elimination_share
from .processes import is_master
from .strategy import ALL_LIVING, Active, Strategy

logger = logging.getLogger(__name__)

#: An update evaluates at least so many candidates of a node, if so many live.
LEAST_ACTIVE = 2
#: The learning rate of alpha is this divided by --max-update: a search of any length can move alpha
#: equally far. Weight decay would hold it where it is.
ALPHA_TRAVEL = 120.0


class Elimination(Strategy):
    """Random subsets, of ever fewer living candidates (--active-share, --elimination-share)."""

    def for_theta(self, update: int) -> Active:
        """A random part of the living candidates of each node."""
        return self._subset(f"{self.cfg.seed} theta {update}")

    def for_alpha(self, update: int) -> Optional[Active]:
        """Another random part; None in the warm-up, and when all nodes are decided."""
        warm = update <= self.cfg.warmup_share * self.cfg.max_update
        return None if warm or self._decided() else self._subset(f"{self.cfg.seed} alpha {update}")

    def for_validation(self) -> Active:
        """All living candidates."""
        return ALL_LIVING

    def active_count(self, update: int, candidates: int) -> int:
        """A share of those that live, at least two."""
        return self._part(self.living_after(update - 1, candidates))

    def after_update(self, update: int) -> None:
        """Eliminate the candidates with the smallest alpha of each node that has too many."""
        architecture = self.model.architecture
        too_many = [
            (side, i, k, living, len(living) - self.living_after(update, len(names)))
            for side, names in CANDIDATES.items()
            for i, layer in enumerate(architecture.living(side))
            for k, living in enumerate(layer)
        ]
        too_many = [node for node in too_many if node[-1] > 0]
        if not too_many:
            return
        alpha = architecture.tables()  # on a GPU, it is waited for
        for side, i, k, living, excess in too_many:
            for candidate in sorted(living, key=alpha[side][i][k].__getitem__)[:excess]:
                architecture.eliminate(side, i, k, candidate)
        if self._decided() and is_master():
            self._report_choices(update)

    def living_after(self, update: int, candidates: int) -> int:
        """How many of a node's candidates live after an update."""
        begin, end = parse_elimination_share(self.cfg.elimination_share)
        done = (update / self.cfg.max_update - begin) / (end - begin)
        return max(1, round(candidates ** (1 - min(1.0, max(0.0, done)))))

    def before_checkpoint(
        self,
        criterion: FairseqCriterion,
        first_batches: Callable[[int], List[Dict[str, Any]]],
        together: bool,
    ) -> None:
        """alpha is the choice so far."""

    def alpha_defaults(self) -> Tuple[float, float]:
        """A learning rate that depends on the length of the search, and no weight decay."""
        return ALPHA_TRAVEL / self.cfg.max_update, 0.0

    def _report_choices(self, update: int) -> None:
        logger.info(f"update {update}: one candidate is left in each node")
        for side, table in self.model.architecture.last_choices().items():
            for node, row in rows_by_node(side, table).items():
                (p, name), (_, other), *_ = sorted(zip(row, CANDIDATES[side]), reverse=True)
                logger.info(f"{node}: {name}, with a probability of {p:.2f} against {other}")

    def _part(self, living: int) -> int:
        return min(living, max(LEAST_ACTIVE, math.ceil(self.cfg.active_share * living)))

    def _decided(self) -> bool:
        sides = map(self.model.architecture.living, CANDIDATES)
        return all(len(living) == 1 for side in sides for layer in side for living in layer)

    def _subset(self, seed: str) -> Active:
        # A str seeds by its hash, SHA-512, the same in every version of Python.
        generator = random.Random(seed)

        def draw(living: Tuple[int, ...]) -> Tuple[int, ...]:
            shuffled = sorted(living, key=lambda _: generator.random())
            return tuple(sorted(shuffled[: self._part(len(living))]))

        def of(side: Living) -> Living:
            return tuple(tuple(map(draw, layer)) for layer in side)

        return {side: of(self.model.architecture.living(side)) for side in CANDIDATES}
