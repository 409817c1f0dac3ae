"""Elimination: random subsets are trained, and candidates drop out until one is left in each node.

Each update evaluates a random part of the living candidates of every node, drawn anew for theta and
for alpha: candidates that were only trained together would need each other (Bender et al. 2018).
From one share of the search to another, the number of living candidates of a node falls
geometrically from all to one, and the one with the smallest alpha goes first; with a budget, the
first of these without which the cheapest network is still within its limit. So the other nodes
are decided step by step while a node still chooses (as in SGAS, Li et al. 2020), and in the end the
supernet is the derived network: there is no step of discretization to lose by.
"""

import logging
import math
import random
from typing import Dict, Optional, Tuple

from ..derivation import Table, rows_by_node, softmax
from ..modules.mixture import Living, without
from ..search_space import CANDIDATES
from .config import parse_elimination_share
from .processes import is_master
from .strategy import ALL_LIVING, Active, Measure, Strategy

logger = logging.getLogger(__name__)

#: An update evaluates at least so many candidates of a node, if so many live.
LEAST_ACTIVE = 2
#: The learning rate of alpha is this divided by --max-update: a search of any length can move alpha
#: equally far. Weight decay would hold it where it is.
ALPHA_TRAVEL = 120.0
#: Side, layer of the cell and split, from 0.
Node = Tuple[str, int, int]


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

    def after_update(self, update: int) -> None:
        """Eliminate candidates of each node that has too many, the least probable one first."""
        too_many = self._too_many(update)
        if not too_many:
            return
        alphas = self.model.architecture.tables()  # on a GPU, it is waited for
        while too_many:
            self.model.architecture.eliminate(*self._next(too_many, alphas))
            too_many = self._too_many(update)
        if self._decided() and is_master():
            self._report_choices(update)

    def _too_many(self, update: int) -> Dict[Node, Tuple[int, ...]]:
        """The nodes that have too many living candidates after an update, with these."""
        architecture = self.model.architecture
        return {
            (side, i, k): living
            for side, names in architecture.candidates.items()
            for i, layer in enumerate(architecture.living(side))
            for k, living in enumerate(layer)
            if len(living) > self.living_after(update, len(names))
        }

    def _next(
        self, nodes: Dict[Node, Tuple[int, ...]], alphas: Dict[str, Table]
    ) -> Tuple[str, int, int, int]:
        """The candidate of `nodes` that goes next: the least probable one.

        It is the one with the smallest alpha in its node whose end the budget allows. There always
        is one: without any but a node's cheapest, the cheapest network is what it was.
        """
        choices = []
        for (side, i, k), living in nodes.items():
            alpha = [alphas[side][i][k][candidate] for candidate in living]
            ranked = sorted(zip(softmax(alpha), living))
            choices += [
                next((p, (side, i, k, c)) for p, c in ranked if self._allows((side, i, k, c)))
            ]
        return min(choices)[1]

    def _allows(self, place: Tuple[str, int, int, int]) -> bool:
        """Whether a network within the budget is left without this candidate."""
        if self.budget is None:
            return True
        side, *node = place
        living = {side: self.model.architecture.living(side) for side in CANDIDATES}
        return self.budget.allows({**living, side: without(living[side], *node)})

    def living_after(self, update: int, candidates: int) -> int:
        """How many of a node's candidates live after an update."""
        begin, end = parse_elimination_share(self.cfg.elimination_share)
        done = (update / self.cfg.max_update - begin) / (end - begin)
        return max(1, round(candidates ** (1 - min(1.0, max(0.0, done)))))

    def before_checkpoint(self, measure: Measure) -> None:
        """alpha is the choice so far."""

    def alpha_defaults(self) -> Tuple[float, float]:
        """A learning rate that depends on the length of the search, and no weight decay."""
        return ALPHA_TRAVEL / self.cfg.max_update, 0.0

    def _report_choices(self, update: int) -> None:
        logger.info(f"update {update}: one candidate is left in each node")
        for side, table in self.model.architecture.last_choices().items():
            for node, row in rows_by_node(side, table).items():
                if any(row):  # none if the node never had a choice
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
