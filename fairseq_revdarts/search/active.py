"""Active candidates: those of a path, and the weights that others leave idle."""

from typing import Dict, Iterator

from fairseq.optim import FairseqOptimizer
from torch import nn

from ..genotype import Genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.mixture import Subsets
from ..search_space import CANDIDATES, searched_splits


def active_on(path: Genotype) -> Dict[str, Subsets]:
    """One active candidate in each searched node: the operation that `path` names."""

    def layer(side: str, names: tuple) -> tuple:
        searched = names[: searched_splits(side, len(names))]
        return tuple((CANDIDATES[side].index(name),) for name in searched)

    return {side: tuple(layer(side, names) for names in getattr(path, side)) for side in CANDIDATES}


def forget_idle_gradients(
    model: RevDartsTransformerModel, active: Dict[str, Subsets], optimizer: FairseqOptimizer
) -> None:
    """Leave the weights of idle candidates without a gradient: theta's optimizer skips them.

    fairseq has given them zeros, with which Adam's momentum would move them on: legacy_ddp over
    several processes, and in half precision the copies of the weights in fp32. With --fp16 these
    are one flat vector, in which nothing can be skipped.

    Args:
        model: the supernet, without distributed wrappers
        active: the candidates that the update has evaluated; all living ones of other sides
        optimizer: theta's
    """
    idle = list(_idle_weights(model, active))
    for weight in idle:
        weight.grad = None
    copies = getattr(optimizer, "fp32_params", None)
    if idle and isinstance(copies, list):
        copy_of = dict(zip(optimizer.fp16_params, copies))
        for weight in idle:
            if weight in copy_of:
                copy_of[weight].grad = None


def _idle_weights(
    model: RevDartsTransformerModel, active: Dict[str, Subsets]
) -> Iterator[nn.Parameter]:
    """The weights of all candidates that the update has not evaluated."""
    for side, stack in zip(CANDIDATES, model.stacks()):
        cell = active.get(side) or model.architecture.living(side)
        for layer in stack.layers:
            for node, indices in zip(layer.nodes, cell[layer.cell_row]):
                for index, candidate in enumerate(node.candidates):
                    if index not in indices:
                        yield from candidate.parameters()
