"""The baseline of a search: uniform sampling of paths, with `--search-strategy sampling`.

Each update trains theta on one path, drawn uniformly; alpha has no gradient. Whenever a
checkpoint is written, PATHS random paths are compared by their loss on the first PATH_BATCHES
batches of alpha's share, and alpha marks the best one: so genotype.json and revdarts-derive work as
after any search.

This is single-path search as commonly done (Guo et al. 2020, "Single Path One-Shot", section 3;
Li & Talwalkar 2019, "Random Search and Reproducibility"). Zhao et al. (2021) report a search with
"uniform sampling" as their baseline; how they chose the final path is not known.
"""

from typing import List, Optional

from ..genotype import Genotype
from .active import active_on
from .paths import by_path, mark_best, random_path
from .strategy import Active, Measure, Strategy

PATHS = 50
PATH_BATCHES = 4


class Sampling(Strategy):
    """One random path in each update of theta; alpha rests, and marks the best path in the end."""

    trains_alpha = False

    def for_theta(self, update: int) -> Active:
        """A random path."""
        return self._path(update - 1)

    def for_alpha(self, update: int) -> Optional[Active]:
        """alpha has no gradient."""
        return None

    def for_validation(self) -> Active:
        """One random path, always the same."""
        return self._path("valid")

    def after_update(self, update: int, measure: Measure) -> None:
        """Nothing is decided before a checkpoint."""

    def before_checkpoint(self, measure: Measure) -> None:
        """Let alpha mark the best of many paths."""
        paths = self._candidates(PATHS)
        mark_best(self.model, by_path(paths, measure(paths, PATH_BATCHES)))

    def _candidates(self, count: int) -> List[Genotype]:
        """Random paths to compare, always the same."""
        names = (f"candidate {number}" for number in range(count))
        return [random_path(self.model, self.cfg.seed, name) for name in names]

    def _path(self, name: object) -> Active:
        return active_on(random_path(self.model, self.cfg.seed, name))
