"""A multi-split reversible layer, drawn like a circuit. Lengths are in inches.

Each part of the stream is a vertical rail. At split k a bus taps all other rails, which are X_j for
j > k and already Y_j for j < k; what it gathers is pooled (by default also normalised), goes
through the operation of the split, and is added to rail k:

    Y_k = X_k + G_k(pool(X_{k+1}, ..., X_n, Y_1, ..., Y_{k-1}))        k = 1..n

The inverse starts from Y, goes from k = n down to 1, and subtracts. Where everything lies is known
beforehand: no general graph layout (graphviz) draws it as clearly.
"""

import textwrap
from dataclasses import dataclass
from typing import Any, Sequence, Tuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyBboxPatch

from .style import BACKGROUND, INK, PALE_INK

RAIL_DISTANCE, ROW_HEIGHT, MARGIN = 1.2, 0.91, 0.32
TOP_MARGIN, BOTTOM_MARGIN = 0.3, 0.08
BOX_WIDTH, BOX_HEIGHT, BOX_CHARACTERS, BOX_LINES = 0.84, 0.36, 10, 3
POOL_RADIUS, SUM_RADIUS, BRIDGE_RADIUS, TAP_RADIUS = 0.16, 0.085, 0.06, 0.03
#: How far below its bus the pooling is, and the operation with its sum.
POOL_DEPTH, OPERATION_DEPTH = 0.22, 0.61
LINE = {"color": INK, "linewidth": 0.9, "solid_capstyle": "butt"}
ARROW = {"arrowstyle": "-|>,head_length=0.3,head_width=0.13", "color": INK, "linewidth": 0.9}

Point = Tuple[float, float]


@dataclass(frozen=True)
class Box:
    """The operation of one split as it is drawn: its text, its colour, and its id in an SVG."""

    text: str
    fill: str
    name: str


def canvas(width: float, height: float) -> Tuple[Figure, Axes]:
    """A figure of that size whose coordinates are inches, from (0, 0) down to (width, -height)."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(-height, 0))
    axes.axis("off")
    return figure, axes


def layer_width(splits: int) -> float:
    """Width of a layer's frame."""
    return RAIL_DISTANCE * (splits - 1) + 2 * MARGIN


def layer_height(splits: int) -> float:
    """Height of a layer's frame."""
    return TOP_MARGIN + ROW_HEIGHT * splits + BOTTOM_MARGIN


def rails(left: float, splits: int) -> Sequence[float]:
    """Where the rails of a layer whose frame begins at `left` are."""
    return [left + MARGIN + k * RAIL_DISTANCE for k in range(splits)]


def operation_x(xs: Sequence[float], k: int) -> float:
    """Where the operation of split `k`, from 0, is: right of its rail, the last one left of it."""
    return xs[k] + (RAIL_DISTANCE if k < len(xs) - 1 else -RAIL_DISTANCE) / 2


def draw_layer(
    axes: Axes, corner: Point, boxes: Sequence[Box], pooling: str, inverse: bool = False
) -> None:
    """A reversible layer, or its inverse, in a frame.

    Args:
        axes: of `canvas`
        corner: the frame's upper left corner
        boxes: the operation of each split
        pooling: what the pooling is called; two splits need none
        inverse: from Y to X
    """
    (left, top), splits = corner, len(boxes)
    height = layer_height(splits)
    frame = FancyBboxPatch(
        *((left, top - height), layer_width(splits), height),
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=BACKGROUND,
        edgecolor="none",
        zorder=0,
    )
    axes.add_patch(frame)
    before, after = ("Y", "X") if inverse else ("X", "Y")
    for number, x in enumerate(rails(left, splits), start=1):
        axes.plot([x, x], [top, top - height], zorder=1, **LINE)
        text = {"ha": "right", "va": "center", "fontsize": 9}
        axes.text(x - 0.05, top - 0.13, f"${before}_{number}$", **text)
        axes.text(x - 0.05, top - height + 0.1, f"${after}_{number}$", **text)
    order = range(splits)
    for row, k in enumerate(reversed(order) if inverse else order):
        bus = top - TOP_MARGIN - row * ROW_HEIGHT
        draw_split(axes, rails(left, splits), k, bus, boxes[k], pooling, "-" if inverse else "+")


def draw_split(
    axes: Axes, xs: Sequence[float], k: int, bus: float, box: Box, pooling: str, sign: str
) -> None:
    """What reaches rail `k`, counted from 0: bus at height `bus`, pooling, operation and sum."""
    drop = operation_x(xs, k)
    towards = 1 if drop > xs[k] else -1
    taps = [x for x in xs if x != xs[k]]
    draw_bus(axes, min([*taps, drop]), max([*taps, drop]), bus, bridge=xs[k])
    for x in taps:
        axes.add_patch(Circle((x, bus), TAP_RADIUS, color=INK, zorder=3))
    operation = bus - OPERATION_DEPTH
    box_top = operation + BOX_HEIGHT / 2
    if len(taps) == 1:
        draw_arrow(axes, (drop, bus), (drop, box_top))
    else:
        draw_arrow(axes, (drop, bus), (drop, bus - POOL_DEPTH + POOL_RADIUS), head=False)
        draw_arrow(axes, (drop, bus - POOL_DEPTH - POOL_RADIUS), (drop, box_top), head=False)
        draw_pooling(axes, (drop, bus - POOL_DEPTH), pooling)
    edge, end = drop - towards * BOX_WIDTH / 2, xs[k] + towards * SUM_RADIUS
    draw_arrow(axes, (edge, operation), (end, operation))
    draw_box(axes, (drop, operation), box)
    draw_sum(axes, (xs[k], operation), sign)


def draw_bus(axes: Axes, start: float, end: float, height: float, bridge: float) -> None:
    """A horizontal line, with a bridge over the rail at `bridge` if it crosses it."""
    if start < bridge < end:
        axes.plot([start, bridge - BRIDGE_RADIUS], [height, height], zorder=2, **LINE)
        axes.plot([bridge + BRIDGE_RADIUS, end], [height, height], zorder=2, **LINE)
        size = 2 * BRIDGE_RADIUS
        axes.add_patch(
            Arc((bridge, height), size, size, theta2=180, color=INK, linewidth=0.9, zorder=2)
        )
    else:
        axes.plot([start, end], [height, height], zorder=2, **LINE)


def draw_arrow(axes: Axes, start: Point, end: Point, head: bool = True, **style: Any) -> None:
    """A straight line from `start` to `end`, with a head unless told otherwise."""
    arrow = {**ARROW, "shrinkA": 0, "shrinkB": 0, **style}
    if not head:
        arrow["arrowstyle"] = "-"
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=2)


def draw_pooling(axes: Axes, centre: Point, pooling: str) -> None:
    """The pooling of a split's inputs."""
    axes.add_patch(
        Circle(centre, POOL_RADIUS, facecolor="white", edgecolor=INK, linewidth=0.9, zorder=3)
    )
    axes.text(*centre, pooling, ha="center", va="center_baseline", fontsize=7, zorder=4)


def draw_box(axes: Axes, centre: Point, box: Box) -> None:
    """The operation of a split."""
    x, y = centre
    patch = FancyBboxPatch(
        *((x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT),
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=box.fill,
        edgecolor=INK,
        linewidth=0.9,
        zorder=3,
    )
    axes.add_patch(patch)
    lines = textwrap.wrap(box.text, BOX_CHARACTERS, max_lines=BOX_LINES, placeholder="…")
    text = axes.text(
        *(x, y, "\n".join(lines)),
        ha="center",
        va="center",
        fontsize=9 if len(lines) < BOX_LINES else 7,
        linespacing=1.0,
        zorder=4,
    )
    text.set_gid(box.name)


def draw_sum(axes: Axes, centre: Point, sign: str) -> None:
    """The sum or difference on a rail."""
    x, y = centre
    axes.add_patch(
        Circle(centre, SUM_RADIUS, facecolor="white", edgecolor=INK, linewidth=0.9, zorder=3)
    )
    arm = 0.6 * SUM_RADIUS
    axes.plot([x - arm, x + arm], [y, y], zorder=4, **LINE)
    if sign == "+":
        axes.plot([x, x], [y - arm, y + arm], zorder=4, **LINE)


def draw_caption(axes: Axes, position: Point, text: str, **style: Any) -> None:
    """A line of explanation."""
    axes.text(*position, text, **{"fontsize": 8, "color": PALE_INK, "va": "center", **style})
