"""How sure a search is of a genotype, in words: what `revdarts-derive` prints."""

import math
from statistics import mean
from typing import Dict, Iterator, List, Mapping, Sequence

from ..derivation import (
    Row,
    entropy,
    family_probabilities,
    mask_excluded,
    rows_by_node,
    softmax,
)
from ..genotype import Genotype, operations_by_node
from ..search.checkpoint import SavedSearch
from ..search_space import CANDIDATES, CROSS_ATTENTION, PARAMETER_FREE, family

SHOWN = 3
#: Share of the uniform entropy above which a search has hardly decided.
UNDECIDED = 0.95
#: Share of a node's mixture below which an operation was not trained to work alone.
ALONE = 0.9
#: Operations that compute a position of the decoder without the other target positions.
NOT_MIXING = {CROSS_ATTENTION, "glu", "ffn", *PARAMETER_FREE}


def line(node: str, winner: str, probabilities: Mapping[str, float]) -> str:
    """A node's leading names with their probabilities; * marks the chosen one."""
    living = [name for name, p in probabilities.items() if p > 0]
    leading = sorted(living, key=probabilities.get, reverse=True)[:SHOWN]
    if winner not in leading:
        leading.append(winner)
    cells = [
        f"{name + ('*' if name == winner else ''):21}{probabilities[name]:.3f}" for name in leading
    ]
    return f"{node:13} " + "   ".join(cells)


def print_certainty(
    search: SavedSearch, genotype: Genotype, exclude: Sequence[str], by_family: bool
) -> None:
    """Print the probabilities of operations, and of their families if these were chosen first.

    Args:
        search: what a checkpoint holds
        genotype: what is derived from it
        exclude: operations that were left out
        by_family: whether a family was chosen before the operation
    """
    chosen = operations_by_node(genotype)
    for side, names in search.candidates.items():
        if names != CANDIDATES[side]:
            print(f"--{side}-candidates {','.join(names)}")
    if by_family:
        print(f"{'node':13} leading families and their probabilities (* chosen)")
        for side in CANDIDATES:
            table = mask_excluded(side, search.alphas[side], exclude)
            for node, row in rows_by_node(side, table).items():
                print(line(node, family(chosen[node]), family_probabilities(side, row)))
        print()
    print(
        f"{'node':13} leading operations and their probabilities (* chosen); of a node with one "
        "candidate left, the last two"
    )
    for side, names in CANDIDATES.items():
        for node, row in last_probabilities(search, side).items():
            print(line(node, chosen[node], dict(zip(names, row))))
    print()
    for side, share in shares_of_uniform(search).items():
        print(f"{side}: {certainty(search, side, share)}")
    for warning in (*warnings(search, genotype), *ties(search, genotype, exclude, by_family)):
        print(f"warning: {warning}")


def last_probabilities(search: SavedSearch, side: str) -> Dict[str, Row]:
    """Of each node, as long as two of its candidates competed."""
    decided = rows_by_node(side, search.last_choices[side])
    rows = rows_by_node(side, search.alphas[side])
    return {node: decided[node] if any(decided[node]) else softmax(rows[node]) for node in rows}


def certainty(search: SavedSearch, side: str, share: float) -> str:
    """How sure the choices of one side are; `share` is its entropy as a share of uniform."""
    candidates = len(search.candidates[side])
    if candidates == 1:
        return "one candidate in each node, because the search had no other"
    if share > 0:
        return (
            f"entropy {share * math.log(candidates):.2f} nats, {100 * share:.0f} % of uniform; "
            f"each of {candidates} candidates has {1 / candidates:.3f} if uniform"
        )
    left = rows_by_node(side, search.alphas[side])
    last = last_probabilities(search, side)
    led = [max(zip(left[node], row))[1] for node, row in last.items()]
    return (
        "one candidate is left in each node; it is better than the last of the others with a "
        f"probability of {mean(led):.2f} (mean), 0.50 is a tie"
    )


def shares_of_uniform(search: SavedSearch) -> Dict[str, float]:
    """Each side's mean entropy over its nodes, as a share of that of equal probabilities."""
    return {
        side: mean(
            entropy(softmax(row)) for row in rows_by_node(side, search.alphas[side]).values()
        )
        / math.log(max(len(names), 2))
        for side, names in search.candidates.items()
    }


def chosen_probabilities(search: SavedSearch, genotype: Genotype) -> List[float]:
    """Of each node, the probability of the genotype's operation."""
    chosen = operations_by_node(genotype)
    return [
        softmax(row)[names.index(chosen[node])]
        for side, names in CANDIDATES.items()
        for node, row in rows_by_node(side, search.alphas[side]).items()
    ]


def ties(
    search: SavedSearch, genotype: Genotype, exclude: Sequence[str], by_family: bool
) -> Iterator[str]:
    """A warning if alpha does not say which operation is the best; arguments as above."""
    chosen, tied = operations_by_node(genotype), []
    for side, names in CANDIDATES.items():
        for node, row in rows_by_node(side, search.alphas[side]).items():
            of_node = dict(zip(names, row))
            best = chosen[node]
            equal = [
                name
                for name, alpha in of_node.items()
                if alpha == of_node[best] and name not in exclude
                if not by_family or family(name) == family(best)
            ]
            if len(equal) > 1:
                tied.append(f"{node} ({', '.join(equal)})")
    if tied:
        yield (
            f"{len(tied)} nodes have several best operations with the same alpha, of which the "
            f"first is taken, such as {tied[0]}"
        )


def warnings(search: SavedSearch, genotype: Genotype) -> Iterator[str]:
    """What speaks against a genotype."""
    left = [len(node) for cell in search.living().values() for layer in cell for node in layer]
    if search.strategy == "elimination" and max(left) > 1:
        yield (
            f"{sum(number > 1 for number in left)} of {len(left)} nodes have several candidates "
            "left: the search has not ended (--max-update, --elimination-share), and the most "
            "probable ones are taken"
        )
    undecided = [
        f"{100 * share:.1f} % of uniform in the {side}"
        for side, share in shares_of_uniform(search).items()
        if share > UNDECIDED
    ]
    if undecided:
        yield (
            f"alpha's entropy is {' and '.join(undecided)}: the search has hardly decided, and its "
            "choices are close to chance; search longer, or raise --alpha-lr"
        )
    searched = {name for layer in genotype.decoder for name in layer}
    if searched <= NOT_MIXING:
        yield (
            "decoder: no node mixes target positions: of the words written so far, each next word "
            "can only depend on the last one; --by-family or another search may do better"
        )
