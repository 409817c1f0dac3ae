"""The active candidates: which candidates a call evaluates in each node, and their probabilities.

A candidate lives until it is eliminated. In each call some of the living candidates of a node are
active: the node evaluates these alone, and p is the softmax of alpha over them. In the paper's
search all candidates live and are active, always. Everything else is a rule for which ones are, and
when: one of them (a sampled path, or a derived network), a random subset, or ever fewer.

A mixture belongs to one call: the backward evaluates the candidates of its forward, even if the
architecture changes between the two.
"""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

#: For each layer of the cell, for each searched split, the indices of some candidates.
Subsets = Tuple[Tuple[Tuple[int, ...], ...], ...]
#: A searched node: side, layer of the cell and split, from 0.
Node = Tuple[str, int, int]


class NodeMixture(NamedTuple):
    """A node's part of a mixture.

    Args:
        active: indices of the candidates that are evaluated
        probabilities: (candidates,); None if the node is not searched
    """

    active: Tuple[int, ...]
    probabilities: Optional[Tensor] = None


#: The mixture of a node with a single candidate: one of a derived network, or a fixed one.
SINGLE = NodeMixture((0,))


@dataclass(frozen=True)
class Mixture:
    """The active candidates of a stack's searched nodes in one call.

    Args:
        probabilities: (s, searched splits, candidates); 0 for candidates that are idle
        active: the indices of the others
    """

    probabilities: Tensor
    active: Subsets

    def node(self, row: int, k: int) -> NodeMixture:
        """The part of split `k`, from 0, in layer `row` of the cell; SINGLE if it is fixed."""
        if k >= len(self.active[row]):
            return SINGLE
        return NodeMixture(self.active[row][k], self.probabilities[row, k])


def all_living(alpha: Tensor) -> Subsets:
    """All candidates of every node; `alpha` is (s, searched splits, candidates)."""
    layers, splits, candidates = alpha.shape
    return ((tuple(range(candidates)),) * splits,) * layers


def indices_of(mask: Tensor) -> Subsets:
    """The indices where `mask` (s, searched splits, candidates) is True.

    Raises:
        ValueError: a node has none: there is no softmax over nothing
    """
    living = tuple(
        tuple(tuple(i for i, lives in enumerate(row) if lives) for row in layer)
        for layer in mask.tolist()
    )
    if not all(all(layer) for layer in living):
        raise ValueError("a node has no living candidate; at least one is needed")
    return living


def softmax_over(alpha: Tensor, active: Subsets) -> Tensor:
    """softmax(alpha) over the active candidates, 0 for the others.

    Args:
        alpha: (s, searched splits, candidates)
        active: those of every node
    """
    if active == all_living(alpha):
        return alpha.softmax(dim=-1)
    idle = torch.ones(alpha.shape, dtype=torch.bool, device="cpu")
    for i, layer in enumerate(active):
        for k, indices in enumerate(layer):
            idle[i, k, list(indices)] = False
    return alpha.masked_fill(idle.to(alpha.device, non_blocking=True), -torch.inf).softmax(dim=-1)


def without(living: Subsets, layer: int, split: int, candidate: int) -> Subsets:
    """`living` without one candidate of one node; all numbers from 0."""
    cell = [list(row) for row in living]
    cell[layer][split] = tuple(index for index in cell[layer][split] if index != candidate)
    return tuple(map(tuple, cell))
