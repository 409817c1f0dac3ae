"""The candidate operations by name, and the decorator that adds one from a --user-dir package."""

from typing import Any, Callable, Dict, Sequence

from torch import nn

from .search_space import CANDIDATES, operation_names

#: Builds a module from the settings of modules/context.py, `OperationSettings`.
OperationClass = Callable[[Any], nn.Module]

#: The operations that this package computes itself are added by modules/operations.py.
OPERATIONS: Dict[str, OperationClass] = {}


def register_operation(
    name: str, sides: Sequence[str] = tuple(CANDIDATES)
) -> Callable[[OperationClass], OperationClass]:
    """Decorator: makes a class a candidate operation of every searched node.

    The class is built from an `OperationSettings`. Its forward(h, context) maps h of shape
    (T, B, C) to the same shape, and is wrapped as dropout(forward(LayerNorm(h), context)), as
    all candidates with weights are. Like the operations of this package, it keeps padded positions
    from real ones, looks at no later position in the decoder, and decodes incrementally. Evaluated
    again with the same dropout masks it must give the same output: no batch statistics.

    Args:
        name: the name in genotypes, logs and pictures
        sides: "encoder", "decoder" or both

    Raises:
        ValueError: the name is taken or no identifier, or a side is unknown
    """
    taken = operation_names()
    if name in taken or not name.isidentifier():
        raise ValueError(
            f"register_operation {name!r}: an identifier is needed that is not one of "
            f"{', '.join(taken)}"
        )
    known = ", ".join(CANDIDATES)
    if not sides or isinstance(sides, str) or not set(sides) <= set(CANDIDATES):
        raise ValueError(
            f"register_operation {name!r}: sides {sides!r}; they are a list of {known}"
        )

    def register(operation: OperationClass) -> OperationClass:
        OPERATIONS[name] = operation
        for side in sides:
            CANDIDATES[side] += (name,)
        return operation

    return register
