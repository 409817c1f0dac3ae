"""The picture of several searches: what each chose in every node, and how far they agree."""

from collections import Counter
from typing import List, Mapping, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..genotype import Choices, Genotype, operations_by_node
from ..search_space import CANDIDATES, family
from .style import INK, PALE_INK, colour, family_legend, label, tint

CELL_WIDTH, CELL_HEIGHT, BARS_WIDTH, SQUARE, MARGIN = 1.0, 0.3, 1.2, 0.45, 1.2
#: Characters of an operation, and of a search's name, whose end tells more than its beginning.
LABEL_WIDTH, NAME_WIDTH = 16, 14
#: From this distance on a square is too dark for black figures.
DARK = 0.55
TITLE = {"fontsize": 9, "fontweight": "bold", "pad": 8}

#: Every node's probabilities at the end of a search; None if no log of it is there.
Probabilities = Optional[Mapping[str, Mapping[str, float]]]


def distance(first: Choices, second: Choices) -> float:
    """The share of the nodes with another operation."""
    return sum(first[node] != second[node] for node in first) / len(first)


def chance_distance(nodes: Sequence[str]) -> float:
    """The expected distance of two genotypes drawn at random."""
    return float(np.mean([1 - 1 / len(CANDIDATES[node.split(".")[0]]) for node in nodes]))


def draw_agreement(
    genotypes: Mapping[str, Genotype], probabilities: Mapping[str, Probabilities]
) -> Figure:
    """A table of winners, its agreement node by node, and the distances between the genotypes.

    Args:
        genotypes: what each search has found, by the name that the picture gives it
        probabilities: by the same names

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
    widths = [CELL_WIDTH * len(found), BARS_WIDTH, max(SQUARE * len(found), 1.8)]
    height = max(CELL_HEIGHT * len(found[first]), widths[-1] + 0.4) + MARGIN
    figure = Figure(figsize=(sum(widths) + 2.5, height), layout="constrained")
    body, foot = figure.subfigures(2, 1, height_ratios=[height - 0.35, 0.35])
    table, bars, squares = body.subplots(1, 3, width_ratios=widths)
    draw_table(table, found, probabilities)
    draw_bars(bars, found)
    draw_distances(squares, found)
    family_legend(foot, [name for row in found.values() for name in row.values()], loc="center")
    return figure


def draw_table(
    axes: Axes, found: Mapping[str, Choices], probabilities: Mapping[str, Probabilities]
) -> None:
    """A row a node, a column a search: the operation chosen, and its probability if it is known."""
    nodes = list(next(iter(found.values())))
    for x, (search, row) in enumerate(found.items()):
        for y, node in enumerate(nodes):
            name = row[node]
            fill = {"facecolor": tint(colour(name)), "edgecolor": "white"}
            axes.add_patch(Rectangle((x, y), 1, 1, **fill))
            known = (probabilities[search] or {}).get(node, {}).get(name)
            text = label(name, LABEL_WIDTH) + ("" if known is None else f"\n{known:.2f}")
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=6, linespacing=1)
    axes.set(xlim=(0, len(found)), ylim=(len(nodes), 0))
    axes.set_xticks([x + 0.5 for x in range(len(found))], _names(found))
    axes.set_yticks([y + 0.5 for y in range(len(nodes))], nodes)
    _frame(axes, "operation chosen" + (", its probability" if any(probabilities.values()) else ""))


def draw_bars(axes: Axes, found: Mapping[str, Choices]) -> None:
    """For each node, the share of the searches with its most frequent operation and family."""
    rows = list(found.values())
    for y, node in enumerate(rows[0]):
        chosen = [row[node] for row in rows]
        for names, shade in (([family(name) for name in chosen], "#CCCCCC"), (chosen, PALE_INK)):
            share = Counter(names).most_common(1)[0][1] / len(rows)
            axes.barh(y + 0.5, share, height=0.7, color=shade)
    axes.set(xlim=(0, 1), ylim=(len(rows[0]), 0), yticks=[])
    axes.set_xticks([0, 0.5, 1], ["0", "½", "all"])
    _frame(axes, "searches that agree")
    axes.set_xlabel("dark: on the operation\npale: on its family", fontsize=7)


def draw_distances(axes: Axes, found: Mapping[str, Choices]) -> None:
    """For each pair of searches, the share of the nodes in which they differ."""
    rows = list(found.values())
    table = np.array([[distance(first, second) for second in rows] for first in rows])
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1)
    for (y, x), value in np.ndenumerate(table):
        ink = "white" if value > DARK else INK
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6, color=ink)
    axes.set_anchor("N")
    axes.set_xticks(range(len(rows)), _names(found), rotation=90)
    axes.set_yticks(range(len(rows)), _names(found))
    _frame(axes, "share of nodes that differ")
    mean = table.sum() / (len(rows) * (len(rows) - 1))
    chance = chance_distance(list(rows[0]))
    axes.set_xlabel(f"mean {mean:.2f}; random genotypes {chance:.2f}", fontsize=7)


def _names(found: Mapping[str, Choices]) -> List[str]:
    return [name if len(name) <= NAME_WIDTH else "…" + name[1 - NAME_WIDTH :] for name in found]


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, **TITLE)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
