"""From the numbers of alpha to a genotype.

A table holds a number for each candidate operation of each searched node of one side: a list for
each layer of the cell, in it a list for each searched split, in it a number for each candidate.
"""

import heapq
import math
from typing import Dict, List, Mapping, Sequence, Tuple

from .genotype import Cell, Genotype
from .search_space import CANDIDATES, FIXED_LAST_OPERATION, family, operation_names

Row = Sequence[float]
Table = Sequence[Sequence[Row]]


def node_names(side: str, layers: int, splits: int) -> List[str]:
    """Names of the searched nodes: side, layer of the cell and split, both from 1."""
    return [f"{side}.{i + 1}.{k + 1}" for i in range(layers) for k in range(splits)]


def rows_by_node(side: str, table: Table) -> Dict[str, Row]:
    """The row of each searched node, under the name that search.jsonl gives the node."""
    rows = [row for layer in table for row in layer]
    return dict(zip(node_names(side, len(table), len(table[0])), rows))


def softmax(row: Row) -> List[float]:
    """The probabilities of a node's candidates; 0 where alpha is minus infinity."""
    largest = max(row)
    weights = [math.exp(value - largest) for value in row]
    return [weight / sum(weights) for weight in weights]


def entropy(probabilities: Row) -> float:
    """Entropy in nats."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def non_finite_nodes(tables: Mapping[str, Table]) -> List[str]:
    """The nodes that have a NaN or an infinity in the table of "encoder" or of "decoder"."""
    return [
        node
        for side, table in tables.items()
        for node, row in rows_by_node(side, table).items()
        if not all(map(math.isfinite, row))
    ]


def family_probabilities(side: str, row: Row) -> Dict[str, float]:
    """The summed probabilities of each family of operations, from a node's alpha."""
    summed: Dict[str, float] = {}
    for name, probability in zip(CANDIDATES[side], softmax(row)):
        summed[family(name)] = summed.get(family(name), 0.0) + probability
    return summed


def mask_excluded(side: str, table: Table, exclude: Sequence[str]) -> Table:
    """A copy of `table` with minus infinity at the operations in `exclude`.

    Raises:
        ValueError: no operation has a name in `exclude`, or a node has no candidate left
    """
    known = operation_names()
    unknown = sorted(set(exclude) - set(known))
    if unknown:
        raise ValueError(f"--exclude: no operation {unknown[0]!r}; they are {', '.join(known)}")
    kept = [name not in exclude for name in CANDIDATES[side]]
    if not any(kept):
        raise ValueError(f"--exclude: all {side} operations are excluded; leave at least one")
    masked = [
        [[value if keep else -math.inf for value, keep in zip(row, kept)] for row in layer]
        for layer in table
    ]
    for node, row in rows_by_node(side, masked).items():
        if max(row) == -math.inf:
            raise ValueError(
                f"--exclude: the search has no other left in {node}"
                if exclude
                else f"no candidate is left in {node}"
            )
    return masked


def best_operation(side: str, row: Row, by_family: bool = False) -> str:
    """The operation of largest alpha; the first one if several have it.

    Args:
        side: "encoder" or "decoder"
        row: a node's alpha
        by_family: choose the family of largest probability first, then its best operation
    """
    names = CANDIDATES[side]
    if by_family:
        masses = family_probabilities(side, row)
        leading = max(masses, key=masses.get)
        row = [a if family(name) == leading else -math.inf for name, a in zip(names, row)]
    return names[max(range(len(names)), key=row.__getitem__)]


def derive_cell(
    side: str, table: Table, exclude: Sequence[str] = (), by_family: bool = False
) -> Cell:
    """The operations that alpha puts first.

    Args:
        side: "encoder" or "decoder"
        table: alpha of all searched nodes
        exclude: operations that are not taken
        by_family: as in `best_operation`

    Raises:
        ValueError: as `mask_excluded`, or `table` is of another search space
    """
    if any(len(row) != len(CANDIDATES[side]) for layer in table for row in layer):
        raise ValueError(f"{side}: alpha is not of the {len(CANDIDATES[side])} candidates")
    return tuple(
        (*(best_operation(side, row, by_family) for row in layer), *FIXED_LAST_OPERATION[side])
        for layer in mask_excluded(side, table, exclude)
    )


def derive_genotype(
    alphas: Mapping[str, Table],
    pooling: str,
    exclude: Sequence[str] = (),
    by_family: bool = False,
) -> Genotype:
    """The genotype that alpha of "encoder" and "decoder" puts first; the rest as `derive_cell`."""
    cells: Dict[str, Tuple] = {
        side: derive_cell(side, alphas[side], exclude, by_family) for side in CANDIDATES
    }
    return Genotype(pooling=pooling, **cells)


def most_probable(
    alphas: Mapping[str, Table], pooling: str, count: int, exclude: Sequence[str] = ()
) -> List[Genotype]:
    """The `count` genotypes of largest joint probability, the product over the nodes; best first.

    Args:
        alphas: of "encoder" and "decoder"
        pooling: "max" or "avg"
        count: how many; there are fewer if the others have a probability of 0
        exclude: operations that are not taken
    """
    ranked = [
        sorted(
            ((p, name) for p, name in zip(softmax(row), CANDIDATES[side]) if p > 0),
            key=lambda choice: -choice[0],
        )
        for side in CANDIDATES
        for layer in mask_excluded(side, alphas[side], exclude)
        for row in layer
    ]

    def probability(places: Tuple[int, ...]) -> float:
        return math.prod(choices[place][0] for choices, place in zip(ranked, places))

    def genotype(places: Tuple[int, ...]) -> Genotype:
        names = iter(choices[place][1] for choices, place in zip(ranked, places))
        cells: Dict[str, Tuple] = {
            side: tuple(
                (*(next(names) for _ in layer), *FIXED_LAST_OPERATION[side])
                for layer in alphas[side]
            )
            for side in CANDIDATES
        }
        return Genotype(pooling=pooling, **cells)

    found, best = [], (0,) * len(ranked)
    open_ones, seen = [(-probability(best), best)], {best}
    while open_ones and len(found) < count:
        _, places = heapq.heappop(open_ones)
        found.append(genotype(places))
        for node, choices in enumerate(ranked):  # the next one differs from one found in one node
            following = (*places[:node], places[node] + 1, *places[node + 1 :])
            if following[node] < len(choices) and following not in seen:
                seen.add(following)
                heapq.heappush(open_ones, (-probability(following), following))
    return found
