"""Draws layer.svg next to this file: a reversible layer, a node of the search, the inverse.

usage: python examples/pictures/draw.py
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fairseq_revdarts.plots.layer import (
    BOX_WIDTH,
    LINE,
    Box,
    canvas,
    draw_arrow,
    draw_box,
    draw_caption,
    draw_layer,
    draw_sum,
    layer_height,
    layer_width,
    rails,
)
from fairseq_revdarts.plots.style import colour, house_style, label, save_picture

SPLITS = 3
CANDIDATES = ("conv_3", "dynamic_conv_7", "self_attention", "ffn", "identity")
GAP, EDGE, HEAD, END = 0.25, 0.05, 0.54, 0.25
NODE_WIDTH = 2.05
WHITE = "#FFFFFF"
SEARCHING = ("each G while searching", "all candidates, p = softmax(alpha)")


def draw_panel(axes: Axes, left: float, width: float, title: str, caption: str) -> None:
    """What stands above a panel."""
    middle = left + width / 2
    axes.text(middle, -0.13, title, ha="center", va="center", fontsize=11, fontweight="bold")
    draw_caption(axes, (middle, -0.34), caption, ha="center")


def draw_rail_ends(axes: Axes, left: float) -> None:
    """The rails above and below a layer."""
    top, bottom = -HEAD, -HEAD - layer_height(SPLITS)
    for x in rails(left, SPLITS):
        axes.plot([x, x], [top, top + 0.1], **LINE)
        draw_arrow(axes, (x, bottom), (x, bottom - END))


def draw_node(axes: Axes, left: float) -> None:
    """A mixed operation: every candidate of H, weighted and summed."""
    top, bottom = -HEAD - 0.12, -HEAD - layer_height(SPLITS)
    entry, middle, end = left + 0.15, left + 0.38 + BOX_WIDTH / 2, left + NODE_WIDTH - 0.35
    text = {"ha": "center", "va": "center", "fontsize": 8}
    axes.text(entry, top + 0.1, "$H$", **text)
    axes.text(end, bottom - 0.12, "$G(H)$", **text)
    rows = [top - 0.25 - 0.45 * number for number in range(len(CANDIDATES))]
    rows[-1] -= 0.2  # room for the candidates that are left out
    total = rows[-1] - 0.32
    axes.plot([entry, entry], [top, rows[-1]], **LINE)
    axes.plot([end, end], [rows[0], total], **LINE)
    for number, (row, name) in enumerate(zip(rows, CANDIDATES), start=1):
        draw_arrow(axes, (entry, row), (middle - BOX_WIDTH / 2, row))
        axes.plot([middle, end], [row, row], **LINE)
        draw_box(axes, (middle, row), Box(label(name), colour(name), name))
        last = number == len(CANDIDATES)
        share = r"$\times\,p_{|O|}$" if last else rf"$\times\,p_{number}$"
        axes.text((middle + BOX_WIDTH / 2 + end) / 2, row + 0.09, share, **text)
    axes.text(middle, (rows[-2] + rows[-1]) / 2, "⋮", **text)
    draw_arrow(axes, (end, total), (end, bottom - 0.02))
    draw_sum(axes, (end, total), "+")


def draw() -> Figure:
    """The layer, what each of its functions is in a search, and the way back."""
    width = layer_width(SPLITS)
    forward, node = EDGE, EDGE + width + GAP
    backward = node + NODE_WIDTH + GAP
    figure, axes = canvas(backward + width + EDGE, HEAD + layer_height(SPLITS) + 0.3)
    boxes = [Box(f"$G_{k}$", WHITE, f"G{k}") for k in range(1, SPLITS + 1)]
    for left, title, caption, inverse in (
        (forward, "forward pass", "every part adds a function G of the others", False),
        (backward, "backward pass", "subtracted again: no layer's inputs are stored", True),
    ):
        draw_panel(axes, left, width, title, caption)
        draw_layer(axes, (left, -HEAD), boxes, "pool", inverse)
        draw_rail_ends(axes, left)
    draw_panel(axes, node, NODE_WIDTH, *SEARCHING)
    draw_node(axes, node)
    return figure


if __name__ == "__main__":
    with house_style():
        save_picture(draw(), str(Path(__file__).with_name("layer.svg")))
