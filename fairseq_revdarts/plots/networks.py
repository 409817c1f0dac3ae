"""The picture of many trained networks: loss and BLEU of each, by language pair and kind."""

import csv
import math
from typing import Any, Dict, List, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import INK, PALE_INK

WIDTH, ROW_HEIGHT, MARGIN = 7.5, 0.36, 1.0
#: The kind of all networks in a table without that column, and the one that others are compared to.
RANDOM = "random"
COLUMNS = ("loss", "bleu")
DOT, MEAN = "#0072B2", "#D55E00"
#: Steps of this share of a row never put two dots next to each other at the same height.
GOLDEN = 0.618
SPREAD = 0.5


def read_networks(path: str) -> List[Dict[str, Any]]:
    """The rows of a CSV file whose lines on top may begin with "#".

    Of each network its pair, kind, genotype, loss and bleu.

    Raises:
        ValueError: the file cannot be read, has no network, or a row has no numbers; names the row
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table of networks ({error})") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        needed = f"the columns {' and '.join(COLUMNS)}, and a line for each network"
        raise ValueError(f"{path}: no network in it; needed are {needed}")
    return [_network(row, f"{path}, network {number}") for number, row in enumerate(rows, 1)]


def _network(row: Dict[str, Any], where: str) -> Dict[str, Any]:
    try:
        numbers = {name: float(row[name]) for name in COLUMNS}
    except (TypeError, ValueError):
        numbers = {}
    if not numbers or not all(map(math.isfinite, numbers.values())):
        found = ", ".join(f"{name} is {row[name]!r}" for name in COLUMNS)
        raise ValueError(f"{where}: {found}; both must be finite numbers")
    texts = {name: row.get(name) or "" for name in ("pair", "genotype")}
    return {**texts, "kind": row.get("kind") or RANDOM, **numbers}


def draw_networks(networks: Sequence[Dict[str, Any]]) -> Figure:
    """A row for each kind, the lowest mean loss on top; a dot for each network, a bar for the mean.

    Means are over genotypes, each with the mean of its seeds.

    Args:
        networks: for each its kind, its validation loss in bits per token, and its bleu; those of
            a language pair, if they name one, have their own panels
    """
    pairs: Dict[str, Dict[str, List[Dict[str, Any]]]] = {}
    for network in networks:
        kinds = pairs.setdefault(network.get("pair", ""), {})
        kinds.setdefault(network["kind"], []).append(network)
    rows = [len(kinds) for kinds in pairs.values()]
    size = (WIDTH, ROW_HEIGHT * sum(rows) + MARGIN * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(rows), 2, sharey="row", squeeze=False, gridspec_kw={"height_ratios": rows}
    )
    for (loss, bleu), (pair, kinds) in zip(panels, pairs.items()):
        ordered = sorted(kinds, key=lambda kind: _mean(kinds[kind], "loss"))
        draw_panels(loss, bleu, {kind: kinds[kind] for kind in ordered})
        loss.set_ylabel(pair, color=INK, fontsize=9)
    loss.set_xlabel("validation loss (bits per token): lower is better")
    bleu.set_xlabel("BLEU: higher is better")
    return figure


def draw_panels(loss: Axes, bleu: Axes, kinds: Dict[str, List[Dict[str, Any]]]) -> None:
    """Both panels of one pair, with the kinds in their order from top to bottom."""
    draw_strips(loss, kinds, "loss", "{:.3f}")
    draw_strips(bleu, kinds, "bleu", "{:.2f}")
    names = [f"{kind} ({len(members)})" for kind, members in kinds.items()]
    loss.set_yticks(range(len(kinds)), names, color=INK, fontsize=8)
    loss.set_ylim(len(kinds) - 0.5, -0.5)


def draw_strips(axes: Axes, kinds: Dict[str, List[Dict[str, Any]]], key: str, form: str) -> None:
    """One panel: the networks of each kind in its row, spread over its height."""
    right = {"fontsize": 7, "color": MEAN, "transform": axes.get_yaxis_transform()}
    for y, members in enumerate(kinds.values()):
        values = np.array(sorted(member[key] for member in members))
        heights = y + SPREAD * ((GOLDEN * np.arange(len(values)) + 0.5) % 1 - 0.5)
        axes.scatter(values, heights, s=14, color=DOT, alpha=0.5, linewidth=0)
        mean = _mean(members, key)
        axes.plot([mean, mean], [y - 0.36, y + 0.36], color=MEAN, linewidth=2)
        axes.text(1.02, y, form.format(mean), va="center", **right)
    head = {"va": "bottom", "fontsize": 7}
    axes.text(1.02, 1.01, "mean", color=MEAN, transform=axes.transAxes, **head)
    if RANDOM in kinds and len(kinds) > 1:
        reference = _mean(kinds[RANDOM], key)
        axes.axvline(reference, color=PALE_INK, linewidth=0.8, linestyle=":")
        # On the side with more room, never into the column of means.
        head["ha"] = "left" if reference < np.mean(axes.get_xlim()) else "right"
        place = {"transform": axes.get_xaxis_transform(), "color": PALE_INK}
        axes.text(reference, 1.01, f"mean of {RANDOM}", **place, **head)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _mean(members: Sequence[Dict[str, Any]], key: str) -> float:
    seeds: Dict[Any, List[float]] = {}
    for number, member in enumerate(members):  # without a genotype, each counts for itself
        seeds.setdefault(member.get("genotype") or number, []).append(member[key])
    return float(np.mean([np.mean(values) for values in seeds.values()]))
