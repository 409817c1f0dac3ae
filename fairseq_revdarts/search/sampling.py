"""The baseline of a search: uniform sampling of paths, with `--search-strategy sampling`.

A path is one candidate operation for each searched node: a genotype, computed with the supernet's
weights. Each update trains theta on one path, drawn uniformly; alpha has no gradient. Whenever a
checkpoint is written, PATHS random paths are compared by their loss on the first PATH_BATCHES
batches of alpha's share, and alpha marks the best one: so genotype.json and revdarts-derive work as
after any search.

This is single-path search as commonly done (Guo et al. 2020, "Single Path One-Shot", section 3;
Li & Talwalkar 2019, "Random Search and Reproducibility"). Zhao et al. (2021) report a search with
"uniform sampling" as their baseline; how they chose the final path is not known.
"""

import math
import random
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from fairseq.criterions import FairseqCriterion

from ..genotype import Genotype, random_genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search_space import CANDIDATES
from .bilevel import to_device
from .living import living_on
from .strategy import OF_PAPER, Active, Strategy

PATHS = 50
PATH_BATCHES = 4


def random_path(model: RevDartsTransformerModel, seed: int, name: object) -> Genotype:
    """A path through the supernet `model`, drawn uniformly.

    It depends on nothing but `seed`, `name` and the search space: all processes draw the same, and
    a resumed search draws the same as one that was not interrupted.
    """
    splits = {side: stack.splits for side, stack in zip(CANDIDATES, model.stacks())}
    cell_layers = model.architecture.encoder.size(0)
    # A str seeds by its hash, SHA-512, the same in every version of Python.
    generator = random.Random(f"{seed} {name}")
    pooling, candidates = model.architecture.pooling, model.architecture.candidates
    return random_genotype(generator, pooling, cell_layers, splits, candidates)


class Sampling(Strategy):
    """One random path in each update of theta; alpha rests, and marks the best path in the end."""

    def for_theta(self, update: int) -> Active:
        """A random path."""
        return self._path(update - 1)

    def for_alpha(self, update: int) -> Optional[Active]:
        """alpha has no gradient."""
        return None

    def for_validation(self) -> Active:
        """One random path, always the same."""
        return self._path("valid")

    def after_update(self, update: int) -> None:
        """Nothing is decided before a checkpoint."""

    def before_checkpoint(
        self,
        criterion: FairseqCriterion,
        first_batches: Callable[[int], List[Dict[str, Any]]],
    ) -> None:
        """Let alpha mark the best of many paths."""
        mark_best_path(self.model, criterion, first_batches(PATH_BATCHES), self.cfg.seed)

    def alpha_defaults(self) -> Tuple[float, float]:
        """Not used."""
        return OF_PAPER

    def _path(self, name: object) -> Active:
        return living_on(random_path(self.model, self.cfg.seed, name))


@torch.no_grad()
def mark_best_path(
    model: RevDartsTransformerModel,
    criterion: FairseqCriterion,
    batches: List[Dict[str, Any]],
    seed: int,
) -> None:
    """Set alpha to 1 at the best of PATHS random paths, to 0 elsewhere.

    Args:
        model: the supernet, without distributed wrappers
        criterion: the loss
        batches: of alpha's share, to compare the paths on
        seed: of the paths
    """
    batches = [to_device(batch, model) for batch in filter(None, batches)]
    paths = [random_path(model, seed, f"candidate {number}") for number in range(PATHS)]

    def loss(path: Genotype) -> float:
        with model.architecture.restricted_to(living_on(path)):
            value = sum(float(criterion(model, batch)[0]) for batch in batches)
        return value if math.isfinite(value) else math.inf

    training = model.training
    model.eval()
    losses = [loss(path) for path in paths]
    model.train(training)
    if math.isinf(min(losses)):
        return  # no path can be trusted: alpha stays as it is
    best = paths[losses.index(min(losses))]
    for side, alpha in zip(CANDIDATES, model.architecture.alphas()):
        alpha.zero_()
        for row, names in zip(alpha, getattr(best, side)):
            for node, name in zip(row, names):
                node[CANDIDATES[side].index(name)] = 1
