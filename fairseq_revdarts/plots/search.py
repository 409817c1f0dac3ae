"""The picture of a search: every node's probabilities, their entropy and both losses."""

import math
from typing import Any, Dict, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..search_space import CANDIDATES
from .style import INK, PALE_INK, colour, family_legend, label

#: One node's probabilities over the entries, (E,) for each operation.
Series = Dict[str, np.ndarray]
#: Points a curve at most; a longer one is drawn as the means of so many parts of it.
POINTS = 200
PANEL_WIDTH, PANEL_HEIGHT, CURVES_HEIGHT, LEGEND_HEIGHT = 1.75, 1.4, 1.9, 0.35
LEAST_WIDTH = 7.0
LABEL_WIDTH = 20
#: Of two curves that are no family's.
FIRST, SECOND = INK, "#E69F00"
SIDES = {"encoder": FIRST, "decoder": SECOND}
LOSSES = {"loss": ("theta's data", FIRST), "alpha_loss": ("alpha's data", SECOND)}


def draw_search(entries: Sequence[Dict[str, Any]]) -> Figure:
    """A panel a node (rows: the cell's layers, columns: splits), above entropy and losses.

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
    family_legend(legend, list(dict.fromkeys(o for row in nodes.values() for o in row)), loc=10)
    blocks = panels.subfigures(1, len(splits), width_ratios=list(splits.values()), squeeze=False)
    highest = max(values.max() for row in nodes.values() for values in row.values())
    for block, (side, columns) in zip(blocks[0], splits.items()):
        block.suptitle(f"{side}: probabilities", fontsize=9, fontweight="bold")
        grid = block.subplots(layers, columns, sharex=True, sharey=True, squeeze=False)
        for name, (other, layer, split) in places.items():
            if other == side:
                panel = grid[layer - 1][split - 1]
                draw_node(panel, updates, nodes[name], f"layer {layer}, split {split}")
                panel.set(xlim=(0, updates[-1]), ylim=(0, 1.08 * highest))
    entropy, losses = curves.subplots(1, 2)
    draw_entropy(entropy, updates, nodes)
    draw_losses(losses, updates, entries)
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


def thin(values: np.ndarray) -> np.ndarray:
    """`values` (E,), or if they are more than POINTS the means of that many parts of them."""
    if len(values) <= POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, POINTS)])


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean of `values` (E,) over a window of a tenth of them, narrower towards the ends."""
    window = np.ones(max(1, len(values) // 10))
    shares = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / shares


def draw_node(panel: Axes, updates: np.ndarray, row: Series, title: str) -> None:
    """One node's probabilities by operation; the last entry's winner is marked and named."""
    winner = max(row, key=lambda operation: row[operation][-1])
    for operation, values in row.items():
        wins = operation == winner
        panel.plot(
            *(thin(updates), thin(values)),
            color=colour(operation),
            linewidth=1.8 if wins else 0.7,
            alpha=1.0 if wins else 0.75,
            zorder=3 if wins else 2,
        )
    at_the_end = (updates[-1], row[winner][-1])
    panel.plot(*at_the_end, "o", color=colour(winner), markersize=4, zorder=4, clip_on=False)
    above = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
    panel.annotate(title, xytext=(0, 12), color=PALE_INK, fontsize=7, **above)
    panel.annotate("■", xytext=(0, 3), color=colour(winner), fontsize=7, **above)
    text = f"{label(winner, LABEL_WIDTH)}  {row[winner][-1]:.2f}"
    panel.annotate(text, xytext=(8, 3), fontweight="bold", fontsize=7, **above)
    panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(3))


def draw_entropy(axes: Axes, updates: np.ndarray, nodes: Dict[str, Series]) -> None:
    """For each side, the mean entropy of its nodes' probabilities and their range."""
    for side, shade in SIDES.items():
        rows = [
            np.array(list(row.values())) for name, row in nodes.items() if _place(name)[0] == side
        ]
        if rows:
            x, entropies = thin(updates), [thin(_entropy(row)) for row in rows]
            spread = np.min(entropies, axis=0), np.max(entropies, axis=0)
            axes.fill_between(x, *spread, color=shade, alpha=0.18, linewidth=0)
            mean = np.mean(entropies, axis=0)
            axes.plot(x, mean, color=shade, linewidth=1.4, label=f"{side}: mean, range")
            all_equal = math.log(max(len(row) for row in rows))
            axes.axhline(all_equal, color=shade, linewidth=0.8, linestyle="--")
    axes.plot([], [], color=PALE_INK, linewidth=0.8, linestyle="--", label="all equal")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    _finish(axes, "entropy of the nodes (nats)")


def _entropy(row: np.ndarray) -> np.ndarray:
    """The entropy of probabilities (|O|, E), in nats: (E,)."""
    return -np.sum(row * np.log(np.maximum(row, np.finfo(float).tiny)), axis=0)


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
    _finish(axes, "loss (bits a token)")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, fontweight="bold")
    axes.set_xlabel("update")
    axes.legend(loc="best", fontsize=7)
