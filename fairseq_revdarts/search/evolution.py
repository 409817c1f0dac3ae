"""Evolution of paths: `--search-strategy evolution`.

As with `sampling`, each update trains theta on one random path (one candidate operation for each
node), so that every candidate learns to work without the others. Before the last checkpoint, paths
are bred: of all that have been measured on alpha's share, the best ones become parents of the next
generation, and each child has another operation in one node. alpha marks the best path of all.

Guo et al. (2020), "Single Path One-Shot Neural Architecture Search with Uniform Sampling", sections
3.2 and 3.4, without crossover.
"""

import logging
import random
from typing import ClassVar, Dict, Mapping, Sequence

from ..genotype import Genotype
from ..search_space import searched_splits
from ..utils.flags import Flags
from .paths import by_path, mark_best, with_operation
from .processes import is_master
from .sampling import PATHS, Sampling
from .strategy import Measure

logger = logging.getLogger(__name__)

#: Random paths to begin with; then so many generations of children, each of one of the best paths.
FIRST, GENERATIONS, CHILDREN, PARENTS = 100, 6, 50, 20
#: Batches of alpha's share that paths are measured on.
BATCHES = 6


class Evolution(Sampling):
    """One random path in each update of theta; in the end, the best path is bred."""

    schedule: ClassVar[Flags] = {"optimization": ("max_update",)}
    _update = 0

    def after_update(self, update: int, measure: Measure) -> None:
        """Nothing is decided before a checkpoint."""
        self._update = update

    def before_checkpoint(self, measure: Measure) -> None:
        """Let alpha mark the best path: of an evolution in the end, of random ones before."""
        if self._update < self.cfg.max_update:
            super().before_checkpoint(measure)
            if is_master():
                logger.info(
                    f"alpha shows the best of {PATHS} random paths; paths are bred after update "
                    f"{self.cfg.max_update}, --max-update"
                )
            return
        mark_best(self.model, self._evolve(measure))

    def _evolve(self, measure: Measure) -> Dict[Genotype, float]:
        """All paths that were measured, with their losses."""
        paths, candidates = self._candidates(FIRST), self.model.architecture.candidates
        losses: Dict[Genotype, float] = {}
        for generation in range(GENERATIONS + 1):
            paths = [path for path in dict.fromkeys(paths) if path not in losses]
            losses.update(by_path(paths, measure(paths, BATCHES)))
            parents = sorted(losses, key=losses.__getitem__)[:PARENTS]
            if is_master():
                logger.info(
                    f"generation {generation} of {GENERATIONS}: {len(losses)} paths measured, the "
                    f"best one has a loss of {losses[parents[0]]:.4f}"
                )
            generator = random.Random(f"{self.cfg.seed} generation {generation}")
            paths = [
                mutated(generator.choice(parents), generator, candidates) for _ in range(CHILDREN)
            ]
        return losses


def mutated(
    path: Genotype, generator: random.Random, candidates: Mapping[str, Sequence[str]]
) -> Genotype:
    """`path` with another candidate in one of its nodes; `path` itself if no node has another.

    Args:
        path: a genotype
        generator: draws node and candidate
        candidates: those that are searched, by side
    """
    nodes = [
        (side, i, k)
        for side, names in candidates.items()
        for i, layer in enumerate(getattr(path, side))
        for k in range(searched_splits(side, len(layer)))
        if len(names) > 1
    ]
    if not nodes:
        return path
    side, i, k = node = generator.choice(nodes)
    before = getattr(path, side)[i][k]
    others = [name for name in candidates[side] if name != before]
    return with_operation(path, node, generator.choice(others))
