"""The picture of several searches: the operation that each chose in every node, and who agrees."""

import textwrap
from collections import Counter
from itertools import combinations
from typing import Callable, List, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..genotype import Choices, Genotype, operations_by_node
from ..search_space import CANDIDATES, family
from .style import INK, colour, family_legend, label

CELL_WIDTH, CELL_HEIGHT, COUNT_WIDTH, NODES_WIDTH, MARGIN = 1.15, 0.27, 0.8, 1.6, 1.2
LEAST_WIDTH = 6.6
#: Characters of an operation, and of a line of a search's name, whose end tells the most.
LABEL_WIDTH, NAME_WIDTH, NAME_LINES = 16, 15, 2


def same_operation(operation: str) -> str:
    """An operation itself, where agreement is on operations."""
    return operation


#: What searches can agree on: whether two operations count as the same.
LEVELS: Mapping[str, Callable[[str], str]] = {"operation": same_operation, "family": family}


def agreement(found: Sequence[Choices], same: Callable[[str], str]) -> float:
    """The share of the nodes with the same choice, as a mean over all pairs of searches."""
    pairs = [
        [same(first[node]) == same(second[node]) for node in first]
        for first, second in combinations(found, 2)
    ]
    return float(np.mean(pairs))


def chance_agreement(nodes: Sequence[str], same: Callable[[str], str]) -> float:
    """The expected agreement of genotypes drawn at random."""
    shares = []
    for node in nodes:
        counts = Counter(map(same, CANDIDATES[node.split(".")[0]]))
        shares.append(sum(count**2 for count in counts.values()) / sum(counts.values()) ** 2)
    return float(np.mean(shares))


def draw_agreement(genotypes: Mapping[str, Genotype]) -> Figure:
    """A row for each searched node: every search's choice, and how many agree on the most frequent.

    Args:
        genotypes: what each of at least two searches has found, by its name in the picture

    Raises:
        ValueError: the genotypes have other nodes
    """
    found = {name: operations_by_node(genotype) for name, genotype in genotypes.items()}
    first, *others = found
    for name in others:
        if list(found[name]) != list(found[first]):
            raise ValueError(
                f"{name}: other nodes than those of {first}; what is compared must agree in "
                "--cell-layers, --encoder-splits and --decoder-splits"
            )
    nodes, rows = list(found[first]), list(found.values())
    content = CELL_WIDTH * len(found) + COUNT_WIDTH * len(LEVELS)
    width = max(NODES_WIDTH + content, LEAST_WIDTH)
    height = CELL_HEIGHT * len(nodes) + MARGIN
    figure = Figure(figsize=(width, height))
    left = NODES_WIDTH + (width - NODES_WIDTH - content) / 2
    box = (left / width, 0.72 / height, content / width, CELL_HEIGHT * len(nodes) / height)
    draw_table(figure.add_axes(box), found)
    figure.text(0.5, 0.5 / height, summary(nodes, rows), ha="center", va="center")
    used = [name for row in rows for name in row.values()]
    family_legend(figure, used, loc="lower center")
    return figure


def draw_table(axes: Axes, found: Mapping[str, Choices]) -> None:
    """A column for each search, then the counts of those that agree."""
    nodes, rows = list(next(iter(found.values()))), list(found.values())
    text = {"ha": "center", "va": "center", "fontsize": 8}
    ends = len(found) + COUNT_WIDTH / CELL_WIDTH * np.arange(len(LEVELS) + 1)
    for y, node in enumerate(nodes):
        for x, row in enumerate(rows):
            fill = {"facecolor": colour(row[node]), "edgecolor": "white", "linewidth": 1.5}
            axes.add_patch(Rectangle((x, y), 1, 1, **fill))
            axes.text(x + 0.5, y + 0.5, label(row[node], LABEL_WIDTH), **text)
        for start, end, same in zip(ends, ends[1:], LEVELS.values()):
            count = Counter(same(row[node]) for row in rows).most_common(1)[0][1]
            weight = "bold" if count == len(rows) else "normal"
            count_text = f"{count} of {len(rows)}" if count > 1 else "none"
            axes.text((start + end) / 2, y + 0.5, count_text, fontweight=weight, **text)
    axes.set(xlim=(0, ends[-1]), ylim=(len(nodes), 0))
    heads = [*map(_short, found), *(f"same\n{level}" for level in LEVELS)]
    middles = [*(x + 0.5 for x in range(len(found))), *((ends[1:] + ends[:-1]) / 2)]
    axes.set_xticks(middles, heads, color=INK)
    axes.set_yticks([y + 0.5 for y in range(len(nodes))], map(_node, nodes), color=INK)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, labelsize=8)
    axes.spines[:].set_visible(False)


def summary(nodes: List[str], rows: List[Choices]) -> str:
    """How far the searches agree, and how far random genotypes would."""
    parts = [
        f"the same {level} in {agreement(rows, same):.0%} of the nodes "
        f"(random genotypes: {chance_agreement(nodes, same):.0%})"
        for level, same in LEVELS.items()
    ]
    return "Two searches choose " + ",\n".join(parts)


def _short(name: str) -> str:
    lines = textwrap.wrap(name, NAME_WIDTH) or [name]
    if len(lines) > NAME_LINES:
        lines = textwrap.wrap("…" + name[1 - NAME_WIDTH * NAME_LINES :], NAME_WIDTH)
    return "\n".join(lines)


def _node(name: str) -> str:
    side, layer, split = name.split(".")
    return f"{side}, layer {layer}, split {split}"
