"""Paths through a supernet: one candidate operation in each searched node, a genotype."""

import math
import random
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Sequence

import torch
from fairseq.criterions import FairseqCriterion
from torch import Tensor

from ..genotype import Genotype, random_genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.mixture import Node
from ..search_space import CANDIDATES
from .active import active_on
from .bilevel import to_device
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


def with_operation(path: Genotype, node: Node, name: str) -> Genotype:
    """`path` with the operation `name` in one node."""
    side, i, k = node
    cell = [list(layer) for layer in getattr(path, side)]
    cell[i][k] = name
    return replace(path, **{side: tuple(map(tuple, cell))})


@torch.no_grad()
def measure_paths(
    model: RevDartsTransformerModel,
    criterion: FairseqCriterion,
    first_batches: Callable[[int], List[Dict[str, Any]]],
    together: bool,
    paths: Sequence[Genotype],
    count: int,
) -> Tensor:
    """What each batch adds to the loss of each path, in nats per token: (paths, batches), in fp64.

    A number that is not finite is infinity. There may be fewer batches than `count`.

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
    losses = torch.zeros(len(paths), len(batches), dtype=torch.float64, device=device)
    tokens = sum(batch["ntokens"] for batch in batches)
    training = model.training
    model.eval()
    for number in range(rank, len(paths), processes):
        with model.architecture.restricted_to(active_on(paths[number])):
            for column, batch in enumerate(batches):
                losses[number, column] = criterion(model, batch)[0] / tokens
    model.train(training)
    if together:
        add_over_processes(losses)
    return losses.where(losses.isfinite(), math.inf).cpu()


def by_path(paths: Sequence[Genotype], losses: Tensor) -> Dict[Genotype, float]:
    """The loss of each path, from what `measure_paths` has returned for them."""
    return dict(zip(paths, losses.sum(-1).tolist()))


def probability_of_less(one: Tensor, other: Tensor) -> float:
    """How probable it is that the first of two losses is the smaller one in truth.

    The differences between the two on single batches say how much of their sum is chance.

    Args:
        one, other: (batches,), of two paths on the same batches

    Returns:
        0.5 if nothing can be said, as after one batch; never quite 0 or 1
    """
    if bool(one.isinf().any()) != bool(other.isinf().any()):
        return 0.01 if one.isinf().any() else 0.99
    differences = other - one
    deviations = differences.sum() / (differences.std() * math.sqrt(len(differences)))
    return float(torch.special.ndtr(deviations).nan_to_num(0.5).clamp(0.01, 0.99))


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
        for row, layer in zip(alpha, active_on(best)[side]):
            for node, (chosen,) in zip(row, layer):
                node[chosen] = MARK
