"""Paths through a supernet: one candidate operation in each searched node, a genotype."""

import math
import random
from typing import Any, Callable, Dict, List, Mapping, Sequence

import torch
from fairseq.criterions import FairseqCriterion

from ..genotype import Genotype, random_genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..search_space import CANDIDATES
from .bilevel import to_device
from .living import living_on
from .processes import add_over_processes, rank_and_processes

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


@torch.no_grad()
def measure_paths(
    model: RevDartsTransformerModel,
    criterion: FairseqCriterion,
    first_batches: Callable[[int], List[Dict[str, Any]]],
    together: bool,
    paths: Sequence[Genotype],
    count: int,
) -> List[float]:
    """The loss of each path in nats per token, infinity if it is not finite.

    Args:
        model: the supernet, without distributed wrappers
        criterion: the loss
        first_batches: gives the first N batches of alpha's share, the same in all processes
        together: whether all processes call this at once, and share the paths among them.
            Otherwise the first one does, and cannot communicate
        paths: what is compared
        count: of the batches to compare them on
    """
    batches = [to_device(batch, model) for batch in filter(None, first_batches(count))]
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
