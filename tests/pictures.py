"""What tests of pictures share: searches that nobody ran, reading an SVG, and when one is whole."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.plots.style import house_style
from fairseq_revdarts.search_space import CANDIDATES

SIGNATURES = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


def search_log(seed=0, layers=2, splits=(2, 2), count=30, extra=(), **fields):
    """Entries of a search that goes from nearly equal probabilities to a decision."""
    random = np.random.default_rng(seed)
    names = {
        f"{side}.{i + 1}.{k + 1}": [*CANDIDATES[side], *extra]
        for side, searched in zip(CANDIDATES, splits)
        for i in range(layers)
        for k in range(searched)
    }
    goals = {node: random.normal(size=len(row)) for node, row in names.items()}
    entries = []
    for number in range(1, count + 1):
        rows = {}
        for node, row in names.items():
            weights = np.exp(4 * goals[node] * number / count)
            rows[node] = dict(zip(row, (weights / weights.sum()).tolist()))
        losses = {"loss": 9.0 + random.normal(), "alpha_loss": None if number < 3 else 9.5}
        entries.append({"update": 10 * number, **losses, **fields, "probabilities": rows})
    return entries


def winners(entry):
    return {node: max(row, key=row.get) for node, row in entry["probabilities"].items()}


def write_log(folder, entries):
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "search.jsonl").write_text(lines, encoding="utf-8")


def texts(path):
    """The text of an SVG, and of each of its groups that has an id."""
    root = ElementTree.parse(path).getroot()
    groups = {group.get("id"): group for group in root.iter() if group.get("id")}
    parts = {
        name: [text.text for text in group.iter() if text.text] for name, group in groups.items()
    }
    return [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")], {
        name: " ".join(" ".join(words).split()) for name, words in parts.items()
    }


def searched(layers, splits, seed):
    """A genotype drawn at random."""
    entry = search_log(seed, layers, splits, count=1)[0]
    chosen = winners(entry)
    cells = {
        side: tuple(
            (*(chosen[f"{side}.{i}.{k}"] for k in range(1, count + 1)), *fixed)
            for i in range(1, layers + 1)
        )
        for side, count, fixed in zip(CANDIDATES, splits, ((), ("cross_attention",)))
    }
    return Genotype("max", **cells)


def drawn(draw, *arguments):
    """A figure drawn on Agg, with its renderer."""
    with house_style():
        figure = draw(*arguments)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


def check_whole(figure, renderer):
    """Nothing is cut off at the edges, and no text lies on another."""
    drawn_area, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert drawn_area.x0 >= -0.01 and drawn_area.y0 >= -0.01
    assert drawn_area.x1 <= width + 0.01 and drawn_area.y1 <= height + 0.01
    extents = {text: text.get_window_extent(renderer) for text in visible_texts(figure)}
    for number, (text, extent) in enumerate(extents.items()):
        for other, taken in list(extents.items())[:number]:
            overlap = extent.intersection(extent, taken)
            assert overlap is None or min(overlap.size) < 1, (text.get_text(), other.get_text())


def visible_texts(figure):
    """All texts of a figure but the labels of ticks that are not drawn."""
    hidden = set()
    for axes in figure.findobj(lambda artist: hasattr(artist, "xaxis")):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not (axes.axison and low - 1e-9 <= tick.get_loc() <= high + 1e-9):
                    hidden.update((tick.label1, tick.label2))
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text not in hidden]
    return [text for text in texts if text.get_text().strip()]
