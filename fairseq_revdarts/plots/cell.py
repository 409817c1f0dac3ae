"""The picture of a genotype: the reversible layers of the encoder's and the decoder's cell."""

from typing import Dict, List

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..genotype import Cell, Genotype
from ..search_space import CROSS_ATTENTION
from .layer import (
    BOX_HEIGHT,
    BOX_WIDTH,
    OPERATION_DEPTH,
    ROW_HEIGHT,
    TOP_MARGIN,
    Box,
    Point,
    canvas,
    draw_arrow,
    draw_caption,
    draw_layer,
    layer_height,
    layer_width,
    operation_x,
    rails,
)
from .style import INK, PALE_INK, colour, family_legend, label

LAYER_GAP, STUB = 0.22, 0.2
HEAD_LENGTH = 0.1
SIDE_GAP, EDGE, HEAD, FOOT, LEAST_WIDTH = 0.95, 0.4, 0.75, 0.65, 6.0


def draw_genotype(genotype: Genotype) -> Figure:
    """The encoder's cell, and next to it the decoder's, which reads the encoder's output."""
    cells = {"encoder": genotype.encoder, "decoder": genotype.decoder}
    widths = [layer_width(len(cell[0])) for cell in cells.values()]
    content = sum(widths) + SIDE_GAP + 2 * EDGE
    lowest = max(cell_height(cell) for cell in cells.values())
    figure, axes = canvas(max(content, LEAST_WIDTH), HEAD + lowest + FOOT)
    left = EDGE + max(0.0, (LEAST_WIDTH - content) / 2)
    lefts = {"encoder": left, "decoder": left + widths[0] + SIDE_GAP}
    for side, cell in cells.items():
        draw_cell(axes, (lefts[side], -HEAD), side, cell, genotype.pooling)
    draw_encoder_output(axes, lefts, cells)
    used = [name for cell in cells.values() for layer in cell for name in layer]
    family_legend(figure, used, loc="lower center", fontsize=7)
    return figure


def cell_height(cell: Cell) -> float:
    """Of all layers of a cell, with what lies between them and the ends of the rails."""
    return len(cell) * (layer_height(len(cell[0])) + LAYER_GAP) - LAYER_GAP + STUB


def layer_top(cell: Cell, number: int) -> float:
    """Where the frame of layer `number` of a cell, from 0, begins."""
    return -HEAD - number * (layer_height(len(cell[0])) + LAYER_GAP)


def draw_cell(axes: Axes, corner: Point, side: str, cell: Cell, pooling: str) -> None:
    """The layers of one cell, below one another; their rails go through."""
    left, splits = corner[0], len(cell[0])
    xs, bottom = rails(left, splits), corner[1] - cell_height(cell)
    layers = "1 layer" if len(cell) == 1 else f"{len(cell)} layers"
    middle = left + layer_width(splits) / 2
    axes.text(middle, -0.25, side, ha="center", va="center", fontsize=10, fontweight="bold")
    draw_caption(axes, (middle, -0.43), f"cell of {layers}, repeated", ha="center")
    for number, layer in enumerate(cell):
        top = layer_top(cell, number)
        boxes = [
            Box(label(name), colour(name), f"{side}.{number + 1}.{split}")
            for split, name in enumerate(layer, start=1)
        ]
        draw_layer(axes, (left, top), boxes, pooling)
        draw_caption(axes, (left - 0.1, top - 0.3), f"layer {number + 1}", rotation=90, ha="center")
        for x in xs:
            stub = LAYER_GAP if number else STUB
            axes.plot([x, x], [top, top + stub], color=INK, linewidth=0.9, zorder=1)
    for x in xs:
        draw_arrow(axes, (x, bottom + STUB), (x, bottom))


def draw_encoder_output(axes: Axes, lefts: Dict[str, float], cells: Dict[str, Cell]) -> None:
    """From below the encoder to every cross-attention of the decoder, across the rails."""
    ends = cross_attentions(lefts["decoder"], cells["decoder"])
    heights = [height for _, height in ends]
    xs = rails(lefts["encoder"], len(cells["encoder"][0]))
    level = -HEAD - cell_height(cells["encoder"]) - 0.05
    trunk = lefts["decoder"] - SIDE_GAP / 2
    axes.plot([xs[0], xs[-1]], [level, level], color=INK, linewidth=2)
    dashed = {"color": PALE_INK, "linewidth": 0.9, "linestyle": (0, (4, 2))}
    axes.plot([xs[-1] + 0.05, trunk], [level, level], **dashed)
    axes.plot([trunk, trunk], [min([level, *heights]), max([level, *heights])], **dashed)
    for x, height in ends:
        axes.plot([trunk, x - HEAD_LENGTH], [height, height], **dashed, zorder=1)
        draw_arrow(axes, (x - HEAD_LENGTH, height), (x, height), color=PALE_INK)
    text = "the encoder's output,\nread by cross attention"
    draw_caption(axes, (sum(xs) / len(xs), level - 0.06), text, ha="center", va="top")


def cross_attentions(left: float, cell: Cell) -> List[Point]:
    """Where the encoder's output enters the boxes: at the left, below what leaves them there."""
    xs = rails(left, len(cell[0]))
    first_row = TOP_MARGIN + OPERATION_DEPTH + BOX_HEIGHT / 3
    return [
        (operation_x(xs, k) - BOX_WIDTH / 2, layer_top(cell, i) - first_row - k * ROW_HEIGHT)
        for i, layer in enumerate(cell)
        for k, name in enumerate(layer)
        if name == CROSS_ATTENTION
    ]
