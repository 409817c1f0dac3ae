"""Sets of living candidates: those of a path, and the weights that a set leaves idle."""

from typing import Dict

from ..genotype import Genotype
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from ..modules.mixture import Living
from ..search_space import CANDIDATES, searched_splits


def living_on(path: Genotype) -> Dict[str, Living]:
    """One living candidate in each searched node: the operation that `path` names."""

    def layer(side: str, names: tuple) -> tuple:
        searched = names[: searched_splits(side, len(names))]
        return tuple((CANDIDATES[side].index(name),) for name in searched)

    return {side: tuple(layer(side, names) for names in getattr(path, side)) for side in CANDIDATES}


def forget_idle_gradients(model: RevDartsTransformerModel, active: Dict[str, Living]) -> None:
    """Leave the weights of idle candidates without a gradient: theta's optimizer skips them.

    Over several processes fairseq's legacy_ddp has given them zeros, with which Adam's momentum
    would move them on.

    Args:
        model: the supernet, without distributed wrappers
        active: the candidates that the update has evaluated; all living ones of other sides
    """
    for side, stack in zip(CANDIDATES, model.stacks()):
        cell = active.get(side) or model.architecture.living(side)
        for layer in stack.layers:
            for node, living in zip(layer.nodes, cell[layer.cell_row]):
                for index, candidate in enumerate(node.candidates):
                    if index not in living:
                        candidate.zero_grad(set_to_none=True)
