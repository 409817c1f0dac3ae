"""Candidate operations of one's own, from a package given as --user-dir."""

from typing import Callable, Sequence

from torch import nn

from .operations import OPERATIONS, OperationSettings, Residual
from .search_space import CANDIDATES

OperationClass = Callable[[OperationSettings], nn.Module]


def register_operation(
    name: str, sides: Sequence[str] = tuple(CANDIDATES)
) -> Callable[[OperationClass], OperationClass]:
    """Decorator: makes a class a candidate operation of every searched node.

    The class is built from an `OperationSettings`; its forward(h, context) maps h of shape
    (T, B, C) to the same shape and is wrapped as LayerNorm(h + dropout(forward(h, context))), as
    all candidates with weights are. As operations.py's own, it keeps padded positions from real
    ones, in the decoder it looks at no later position and decodes incrementally, and computed again
    with the same dropout masks it gives the same: no batch statistics.

    Args:
        name: as it stands in genotypes, logs and pictures
        sides: "encoder", "decoder" or both

    Raises:
        ValueError: the name is taken or no identifier, or a side is unknown
    """
    if name in OPERATIONS or not name.isidentifier():
        raise ValueError(
            f"register_operation {name!r}: an identifier is needed that is not one of "
            f"{', '.join(OPERATIONS)}"
        )
    known = ", ".join(CANDIDATES)
    if not sides or isinstance(sides, str) or not set(sides) <= set(CANDIDATES):
        raise ValueError(
            f"register_operation {name!r}: sides {sides!r}; they are a list of {known}"
        )

    def register(operation: OperationClass) -> OperationClass:
        OPERATIONS[name] = lambda settings: Residual(operation(settings), settings)
        for side in sides:
            CANDIDATES[side] += (name,)
        return operation

    return register
