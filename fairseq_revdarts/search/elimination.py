"""Elimination: random subsets are trained, and candidates drop out until one is left in each node.

Each update evaluates a random part of the living candidates of every node, drawn anew for theta and
for alpha: candidates that were only trained together would need each other (Bender et al. 2018).
From one share of the search to another, the number of living candidates falls geometrically from
all to one per node. The nodes lose their candidates one after the other, so each decides while the
others are ever more decided (as in SGAS, Li et al. 2020), and with training in between. In the end
the supernet is the derived network: there is no step of discretization to lose by.

As long as many candidates live in a node, the one with the smallest alpha goes. But alpha follows
the slope of a mixture, which favors what learns fast. So the last decisions are measured, as in
DARTS-PT (Wang et al. 2021), except that each candidate is kept alone in place of left out: what
counts is the loss on alpha's share of the network that alpha puts first, with this candidate in the
node. The one with the largest loss goes. With a budget, a candidate goes only if the cheapest
network without it is within the limit.
"""

import logging
import math
import random
from typing import ClassVar, Dict, Optional, Tuple

from ..derivation import rows_by_node, softmax
from ..genotype import operations_by_node
from ..modules.mixture import Node, Subsets, without
from ..search_space import CANDIDATES
from ..utils.flags import Flags
from .config import BilevelSearchConfig, parse_elimination_share
from .paths import probability_of_less, with_operation
from .processes import is_master
from .strategy import ALL_LIVING, Active, Measure, Strategy

logger = logging.getLogger(__name__)

#: An update evaluates at least so many candidates of a node, if so many live.
LEAST_ACTIVE = 2
#: When no more candidates live in a node, they are measured, on so many batches of alpha's share.
MEASURED, BATCHES = 4, 12
#: The learning rate of alpha is this divided by --max-update: a search of any length can move alpha
#: equally far. Weight decay would hold it where it is.
ALPHA_TRAVEL = 120.0


class Elimination(Strategy):
    """Random subsets, of ever fewer living candidates (--active-share, --elimination-share)."""

    schedule: ClassVar[Flags] = {
        "optimization": ("max_update",),
        "task": ("warmup_share", "elimination_share"),
    }

    @classmethod
    def check_flags(cls, cfg: BilevelSearchConfig) -> None:
        """Raise a ValueError for shares that do not fit."""
        begin, _ = parse_elimination_share(cfg.elimination_share)
        if not 0 <= cfg.warmup_share <= begin:
            raise ValueError(
                f"--warmup-share {cfg.warmup_share}: from 0 to the beginning of "
                f"--elimination-share, {begin}, is needed: nothing is eliminated before alpha moves"
            )
        if not 0 < cfg.active_share <= 1:
            raise ValueError(f"--active-share {cfg.active_share}: above 0 and at most 1 is needed")

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

    def after_update(self, update: int, measure: Measure) -> None:
        """Eliminate candidates as long as there are too many."""
        while nodes := self._too_many(update):
            node, candidate = self._least_probable(nodes)
            if len(nodes[node]) <= MEASURED:
                candidate = self._largest_loss(node, nodes[node], measure)
            self.model.architecture.eliminate(*node, candidate)
            if self._decided() and is_master():
                self._report_choices(update)

    def _too_many(self, update: int) -> Dict[Node, Tuple[int, ...]]:
        """The nodes of which one loses a candidate next, with their living ones, if there are any.

        They are those with the most candidates of a side that has too many.
        """
        living, found = self.model.architecture.living_by_node(), {}
        for side, names in self.model.architecture.candidates.items():
            nodes = {at: left for at, left in living.items() if at[0] == side}
            numbers = [len(left) for left in nodes.values()]
            if sum(numbers) > self.living_after(update, len(names), len(numbers)):
                found.update({at: left for at, left in nodes.items() if len(left) == max(numbers)})
        return found

    def _least_probable(self, nodes: Dict[Node, Tuple[int, ...]]) -> Tuple[Node, int]:
        """Of all candidates of `nodes` that may go, the one with the smallest p, and its node.

        Each node has one: without any but its cheapest, the cheapest network is what it was.
        """
        alphas = self.model.architecture.tables()  # on a GPU, it is waited for
        choices = []
        for (side, i, k), living in nodes.items():
            probabilities = softmax([alphas[side][i][k][candidate] for candidate in living])
            ranked, node = sorted(zip(probabilities, living)), (side, i, k)
            choices += [next((p, node, c) for p, c in ranked if self._allows(node, c))]
        return min(choices)[1:]

    def _largest_loss(self, node: Node, living: Tuple[int, ...], measure: Measure) -> int:
        """Of a node's candidates that may go, the one with the largest loss.

        When two are left, the architecture keeps how probable it is that each one is the better.
        """
        best, names = self.model.architecture.genotype(), CANDIDATES[node[0]]
        batches = measure([with_operation(best, node, names[c]) for c in living], BATCHES)
        losses = batches.sum(-1).tolist()
        if len(living) == 2:
            first = probability_of_less(*batches)
            self.model.architecture.keep_choice(*node, dict(zip(living, (first, 1 - first))))
        ranked = sorted(zip(losses, living), reverse=True)
        return next(c for _, c in ranked if self._allows(node, c))

    def _allows(self, node: Node, candidate: int) -> bool:
        """Whether a network within the budget is left without this candidate."""
        if self.budget is None:
            return True
        side, *place = node
        living = {side: self.model.architecture.living(side) for side in CANDIDATES}
        return self.budget.allows({**living, side: without(living[side], *place, candidate)})

    def living_after(self, update: int, candidates: int, nodes: int) -> int:
        """How many live after an update in `nodes` nodes that began with `candidates` each."""
        begin, end = parse_elimination_share(self.cfg.elimination_share)
        done = (update / self.cfg.max_update - begin) / (end - begin)
        return round(nodes * candidates ** (1 - min(1.0, max(0.0, done))))

    def before_checkpoint(self, measure: Measure) -> None:
        """alpha is the choice so far; says how far it is decided."""
        living = self.model.architecture.living_by_node().values()
        undecided = sum(len(left) > 1 for left in living)
        if undecided and is_master():
            _, end = parse_elimination_share(self.cfg.elimination_share)
            logger.info(
                f"{undecided} of {len(living)} nodes have several candidates left; all are decided "
                f"by update {math.ceil(end * self.cfg.max_update)}"
            )

    def alpha_defaults(self) -> Tuple[float, float]:
        """A learning rate that depends on the length of the search, and no weight decay."""
        return ALPHA_TRAVEL / self.cfg.max_update, 0.0

    def _report_choices(self, update: int) -> None:
        logger.info(f"update {update}: one candidate is left in each node")
        left = operations_by_node(self.model.architecture.genotype())
        for side, table in self.model.architecture.last_choices().items():
            for node, row in rows_by_node(side, table).items():
                chosen = {name: p for name, p in zip(CANDIDATES[side], row) if p}
                if chosen:  # not if the node never had a choice
                    p, (other,) = chosen.pop(left[node]), chosen
                    logger.info(
                        f"{node}: {left[node]}, better than {other} with a probability of {p:.2f}"
                    )

    def _part(self, living: int) -> int:
        return min(living, max(LEAST_ACTIVE, math.ceil(self.cfg.active_share * living)))

    def _decided(self) -> bool:
        living = self.model.architecture.living_by_node()
        return all(len(left) == 1 for left in living.values())

    def _subset(self, seed: str) -> Active:
        # A str seeds by its hash, SHA-512, the same in every version of Python.
        generator = random.Random(seed)

        def draw(living: Tuple[int, ...]) -> Tuple[int, ...]:
            shuffled = sorted(living, key=lambda _: generator.random())
            return tuple(sorted(shuffled[: self._part(len(living))]))

        def of(side: Subsets) -> Subsets:
            return tuple(tuple(map(draw, layer)) for layer in side)

        return {side: of(self.model.architecture.living(side)) for side in CANDIDATES}
