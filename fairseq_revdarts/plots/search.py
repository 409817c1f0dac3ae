"""The picture of a search: what competes in every node, how decided alpha is, and both losses."""

import math
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..search_space import CANDIDATES, family
from .style import FAMILY_COLOURS, INK, PALE_INK, colour, family_legend, label

#: One node's probabilities over the entries, (E,) for each operation.
Series = Dict[str, np.ndarray]
#: Points of a curve, which is the mean of that many parts, and of the edge of an area.
POINTS, AREA_POINTS = 200, 40
PANEL_WIDTH, PANEL_HEIGHT, CURVES_HEIGHT, LEGEND_HEIGHT = 1.75, 1.6, 1.9, 0.35
LEAST_WIDTH = 7.0
LABEL_WIDTH = 20
#: Of two curves that are no family's.
FIRST, SECOND = INK, "#D08A00"
FROZEN, VEIL = "alpha is frozen", "#C4C4C4"
SIDES = {"encoder": FIRST, "decoder": SECOND}
LOSSES = {"loss": ("on the pairs of theta", FIRST), "alpha_loss": ("on the pairs of alpha", SECOND)}


def draw_search(entries: Sequence[Dict[str, Any]]) -> Figure:
    """A panel for each node (rows: the cell's layers, columns: splits), above entropy and losses.

    A search within a budget has a third curve, its expected cost.

    Args:
        entries: of a search's log, as `read_search_log` returns them
    """
    updates = np.array([float(entry["update"]) for entry in entries])
    nodes = {name: _series(entries, name) for name in entries[0]["probabilities"]}
    places = {name: _place(name) for name in nodes}
    layers = max(layer for _, layer, _ in places.values())
    splits = {
        side: max((k for other, _, k in places.values() if other == side), default=0)
        for side in CANDIDATES
    }
    splits = {side: count for side, count in splits.items() if count}
    width = max(LEAST_WIDTH, 0.5 + PANEL_WIDTH * sum(splits.values()))
    heights = [LEGEND_HEIGHT, PANEL_HEIGHT * layers + 0.3, CURVES_HEIGHT]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    legend, panels, curves = figure.subfigures(3, 1, height_ratios=heights)
    family_legend(legend, [name for row in nodes.values() for name in row], loc="center")
    frozen = frozen_until(entries)
    blocks = panels.subfigures(1, len(splits), width_ratios=list(splits.values()), squeeze=False)
    for block, (side, columns) in zip(blocks[0], splits.items()):
        block.suptitle(side, fontsize=9, fontweight="bold")
        grid = block.subplots(layers, columns, sharex=True, sharey=True, squeeze=False)
        for name, (other, layer, split) in places.items():
            if other == side:
                panel = grid[layer - 1][split - 1]
                draw_node(panel, updates, nodes[name], f"layer {layer}, split {split}")
                shade_frozen(panel, frozen, zorder=3)
        for panel in grid[-1]:
            panel.set_xlabel("update")
        for panel in grid[:, 0]:
            panel.set_ylabel("probability")
    within_budget = all(isinstance(entry.get("cost"), (int, float)) for entry in entries)
    entropy, losses, *cost = curves.subplots(1, 3 if within_budget else 2)
    for axes in (entropy, losses, *cost):
        shade_frozen(axes, frozen)
    draw_entropy(entropy, updates, nodes)
    draw_losses(losses, updates, entries)
    for axes in cost:
        draw_cost(axes, updates, entries)
    return figure


def _series(entries: Sequence[Dict[str, Any]], node: str) -> Series:
    operations = entries[0]["probabilities"][node]
    return {
        operation: np.array([entry["probabilities"][node][operation] for entry in entries])
        for operation in operations
    }


def _place(node: str) -> Tuple[str, int, int]:
    side, layer, split = node.split(".")
    return side, int(layer), int(split)


def frozen_until(entries: Sequence[Dict[str, Any]]) -> float:
    """The last update of the search's beginning in which alpha did not move; 0 if it always did."""
    update = 0.0
    for entry in entries:
        if entry.get("alpha_loss", 0.0) is not None:
            break
        update = float(entry["update"])
    return update


def thin(values: np.ndarray) -> np.ndarray:
    """`values` (E,), or if they are more than POINTS the means of that many parts of them."""
    if len(values) <= POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, POINTS)])


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean of `values` (E,) over a window of about a tenth of them, narrower at the ends."""
    window = np.ones(2 * (len(values) // 20) + 1)  # odd, so that it lies around its value
    shares = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / shares


def draw_node(panel: Axes, updates: np.ndarray, row: Series, title: str) -> None:
    """One node's probabilities, stacked by family; the winner of the last entry is outlined.

    A cross marks the end of an eliminated candidate.
    """
    # A polygon keeps all its points in the file, so there are few of them.
    chosen = np.linspace(0, len(updates) - 1, min(len(updates), AREA_POINTS)).astype(int)
    x = np.array([0, *updates[chosen]])
    order = sorted(row, key=lambda name: list(FAMILY_COLOURS).index(family(name)))
    heights = {name: row[name][[0, *chosen]] for name in order}
    tops = dict(zip(order, np.cumsum(list(heights.values()), axis=0)))
    for name in reversed(order):  # each area hides the lower part of the one before
        style = {"facecolor": colour(name), "edgecolor": "white", "linewidth": 0.4}
        panel.fill([0, *x, x[-1]], [0, *tops[name], 0], **style)
    for place in eliminations(updates, row, order):
        panel.plot(*place, "x", color=INK, markersize=2.5, markeredgewidth=0.6, clip_on=False)
    winner, *others = sorted(row, key=lambda name: -row[name][-1])
    for edge in (tops[winner], tops[winner] - heights[winner]):
        panel.plot(x, edge, color=INK, linewidth=1)
    panel.set(xlim=(0, updates[-1]), ylim=(0, 1))
    panel.spines[:].set_visible(False)
    panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    panel.set_yticks([0, 0.5, 1])
    write_above(panel, 23, title, color=PALE_INK)
    write_contender(panel, 13, winner, row[winner][-1], fontweight="bold")
    for name in others[:1]:
        if row[name][-1] > 0:
            write_contender(panel, 4, name, row[name][-1])


def eliminations(
    updates: np.ndarray, row: Series, order: Sequence[str]
) -> List[Tuple[float, float]]:
    """Where the areas of eliminated candidates end: the middle of each at its last update.

    Args:
        updates: of the entries, (E,)
        row: a node's probabilities; 0 once a candidate is eliminated
        order: of the areas, from below
    """
    places = []
    tops = np.cumsum([row[name] for name in order], axis=0)
    for name, top in zip(order, tops):
        living = np.flatnonzero(row[name])
        if len(living) > 0 and living[-1] + 1 < len(updates):
            last = living[-1]
            places.append((updates[last], top[last] - row[name][last] / 2))
    return places


def write_contender(panel: Axes, height: float, name: str, share: float, **style: Any) -> None:
    """An operation with its family's colour and its probability, `height` points above a panel."""
    write_above(panel, height, "■", color=colour(name))
    write_above(panel, height, f"{label(name, LABEL_WIDTH)}  {share:.2f}", left=8, **style)


def write_above(panel: Axes, height: float, text: str, left: float = 0, **style: Any) -> None:
    """A text that begins `left` points from the left end of a panel, `height` points above it."""
    place = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
    panel.annotate(text, xytext=(left, height), fontsize=7, **place, **style)


def draw_entropy(axes: Axes, updates: np.ndarray, nodes: Dict[str, Series]) -> None:
    """For each side, the mean entropy of its nodes' probabilities and their range."""
    for side, shade in SIDES.items():
        rows = [row for name, row in nodes.items() if _place(name)[0] == side]
        if rows:
            x, entropies = thin(updates), [thin(entropy_share(row)) for row in rows]
            spread = np.min(entropies, axis=0), np.max(entropies, axis=0)
            axes.fill_between(x, *spread, color=shade, alpha=0.18, linewidth=0)
            mean = np.mean(entropies, axis=0)
            axes.plot(x, mean, color=shade, linewidth=1.4, label=f"{side}: mean, range")
    axes.axhline(1, color=PALE_INK, linewidth=0.8, linestyle="--", label="uniform: undecided")
    axes.set_ylim(0, 1.05)
    _finish(axes, updates, "entropy of the nodes", "share of uniform")


def entropy_share(row: Series) -> np.ndarray:
    """The entropy of one node's probabilities: 1 if all are equal, 0 if one has it all. (E,)"""
    values = np.array(list(row.values()))
    terms = values * np.log(np.maximum(values, np.finfo(float).tiny))
    return -terms.sum(axis=0) / math.log(max(len(row), 2))


def draw_losses(axes: Axes, updates: np.ndarray, entries: Sequence[Dict[str, Any]]) -> None:
    """Both levels' losses, each with its running mean."""
    for key, (name, shade) in LOSSES.items():
        points = [
            (update, entry[key])
            for update, entry in zip(updates, entries)
            if isinstance(entry.get(key), (int, float)) and math.isfinite(entry[key])
        ]
        if points:
            x, y = (thin(np.array(values)) for values in zip(*points))
            axes.plot(x, y, color=shade, linewidth=0.6, alpha=0.5)
            axes.plot(x, smooth(y), color=shade, linewidth=1.6, label=name)
    _finish(axes, updates, "loss", "bits per token")


def draw_cost(axes: Axes, updates: np.ndarray, entries: Sequence[Dict[str, Any]]) -> None:
    """The expected cost of the supernet, as a share of the limit."""
    shares = np.array([entry["cost"] / entry["cost_limit"] for entry in entries])
    axes.plot(thin(updates), thin(shares), color=FIRST, linewidth=1.4)
    axes.axhline(1, color=PALE_INK, linewidth=0.8, linestyle="--", label="--cost-limit")
    axes.set_ylim(0, max(1.05, 1.05 * shares.max()))
    _finish(axes, updates, "expected cost", "share of the limit")


def _finish(axes: Axes, updates: np.ndarray, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=9, fontweight="bold")
    axes.set(xlabel="update", ylabel=unit, xlim=(0, updates[-1]))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=7)


def shade_frozen(axes: Axes, until: float, zorder: float = 0) -> None:
    """A shade over the updates before alpha moves, from 0 to `until`."""
    if until:
        axes.axvspan(0, until, color=VEIL, alpha=0.55, linewidth=0, zorder=zorder, label=FROZEN)
