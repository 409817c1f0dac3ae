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
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import torch
from fairseq.criterions import FairseqCriterion

from ..genotype import Genotype, random_genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search_space import CANDIDATES
from .bilevel import to_device
from .living import living_on
from .processes import add_over_processes, rank_and_processes
from .strategy import Active, Strategy

PATHS = 50
PATH_BATCHES = 4
#: alpha of the operations of the best path, 0 for all others: their probability is then 1.
MARK = 20.0


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
        together: bool,
    ) -> None:
        """Let alpha mark the best of many paths."""
        paths, batches = self._candidates(PATHS), first_batches(PATH_BATCHES)
        losses = measure_paths(self.model, criterion, batches, paths, together)
        mark_best(self.model, dict(zip(paths, losses)))

    def _candidates(self, count: int) -> List[Genotype]:
        """Random paths to compare, always the same."""
        names = (f"candidate {number}" for number in range(count))
        return [random_path(self.model, self.cfg.seed, name) for name in names]

    def _path(self, name: object) -> Active:
        return living_on(random_path(self.model, self.cfg.seed, name))


@torch.no_grad()
def measure_paths(
    model: RevDartsTransformerModel,
    criterion: FairseqCriterion,
    batches: List[Dict[str, Any]],
    paths: Sequence[Genotype],
    together: bool,
) -> List[float]:
    """The loss of each path in nats per token, infinity if it is not finite.

    Args:
        model: the supernet, without distributed wrappers
        criterion: the loss
        batches: of alpha's share, to compare the paths on; the same in all processes
        paths: what is compared
        together: whether all processes call this at once, and share the paths among them
    """
    batches = [to_device(batch, model) for batch in filter(None, batches)]
    rank, processes = rank_and_processes() if together else (0, 1)
    device = model.architecture.encoder.device
    losses = torch.zeros(len(paths), dtype=torch.float64, device=device)
    tokens = sum(batch["ntokens"] for batch in batches)
    training = model.training
    model.eval()
    for number in range(rank, len(paths), processes):
        with model.architecture.restricted_to(living_on(paths[number])):
            for batch in batches:
                losses[number] += criterion(model, batch)[0] / tokens
    model.train(training)
    if together:
        add_over_processes(losses)
    return losses.where(losses.isfinite(), math.inf).tolist()


@torch.no_grad()
def mark_best(model: RevDartsTransformerModel, losses: Mapping[Genotype, float]) -> None:
    """Set alpha to MARK at the path of smallest loss, the first of equal ones, to 0 elsewhere.

    If no loss is finite, no path can be trusted, and alpha stays as it is.
    """
    best = min(losses, key=losses.__getitem__)
    if math.isinf(losses[best]):
        return
    for side, alpha in zip(CANDIDATES, model.architecture.alphas()):
        alpha.zero_()
        for row, layer in zip(alpha, living_on(best)[side]):
            for node, (chosen,) in zip(row, layer):
                node[chosen] = MARK
