"""The picture of a profile: activation memory against depth, for each way of backpropagation."""

import json
from dataclasses import dataclass
from typing import Dict

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import INK

WIDTH, HEIGHT = 6.6, 3.3
#: The rows that are drawn, in colours that remain distinct to colour-blind readers, with markers.
MODES = {
    "reconstruct": ("#009E73", "D"),
    "checkpoint": ("#0072B2", "s"),
    "store": ("#D55E00", "o"),
}
#: Least distance of two labels, as a share of the height of the axes.
LABEL_DISTANCE = 0.08
#: What all results of one file have in common, by their settings.
REGIME = "{network}, hidden size {hidden_size}, {tokens} tokens per batch, {precision}, {device}"
REMEDY = "write one with revdarts-profile --sweep layers --json FILE"
MEGA = 1e6


@dataclass(frozen=True)
class Profile:
    """The activation memory that `revdarts-profile --sweep layers --json FILE` has measured.

    Args:
        regime: of all measurements, in words
        activations: by mode and layers of each stack, MB in a step that updates the weights; a
            depth for which the memory did not suffice is absent
    """

    regime: str
    activations: Dict[str, Dict[int, float]]


def is_profile(path: str) -> bool:
    """Whether a file is one of `revdarts-profile --json`, whatever it swept."""
    try:
        with open(path, encoding="utf-8") as file:
            return "results" in json.load(file)
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def read_profile(path: str) -> Profile:
    """The activation memory in a file of `revdarts-profile`.

    Raises:
        ValueError: the file cannot be read, or does not have several depths
    """
    activations: Dict[str, Dict[int, float]] = {mode: {} for mode in MODES}
    try:
        with open(path, encoding="utf-8") as file:
            results = json.load(file)["results"]
        for result in results:
            for row in result["rows"]:
                if row["network"] in MODES and row["failed"] is None:
                    layers, used = result["settings"]["layers"], row["theta"]["activations"]
                    activations[row["network"]][int(layers)] = float(used) / MEGA
        settings = results[0]["settings"]
        network = "supernet" if settings["genotype"] is None else "network of a genotype"
        regime = REGIME.format(network=network, **settings)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as a profile ({error!r}); {REMEDY}") from error
    if max(map(len, activations.values())) < 2:
        raise ValueError(f"{path}: a profile of a single depth; {REMEDY}")
    return Profile(regime, activations)


def draw_memory(profile: Profile) -> Figure:
    """A line for each mode, from zero memory on: what is flat and what grows shows at a glance."""
    rows = {mode: row for mode, row in profile.activations.items() if row}
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    top = 1.05 * max(used for row in rows.values() for used in row.values())
    deepest = max(max(row) for row in rows.values())
    distance, lowest = LABEL_DISTANCE * top, 0.0
    ascending = sorted(rows, key=lambda mode: rows[mode][max(rows[mode])])
    for above, mode in zip(reversed(range(len(rows))), ascending):
        shade, marker = MODES[mode]
        depths = sorted(rows[mode])
        used = [rows[mode][depth] for depth in depths]
        axes.plot(depths, used, color=shade, marker=marker, markersize=4, clip_on=False)
        height = min(max(used[-1], lowest), top - above * distance)
        lowest = height + distance
        text = f"{mode}: {used[-1]:,.0f} MB"
        if depths[-1] < deepest:
            text += ",\nthen out of memory"
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (depths[-1], height), color=shade, fontweight="bold", **place)
    axes.set(xlim=(0, deepest), ylim=(0, top))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("layers in the encoder, and as many in the decoder")
    axes.set_ylabel("activation memory (MB)")
    axes.set_title(profile.regime, fontsize=8, color=INK)
    return figure
