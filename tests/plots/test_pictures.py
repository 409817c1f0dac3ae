"""`revdarts-plot`: pictures in which nothing is missing, cut off or overlapping."""

import numpy as np
import pytest
from helpers import TYPICAL, genotypes
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from pictures import search_log, searched, texts, winners

from fairseq_revdarts.cli.plot import short_names
from fairseq_revdarts.genotype import operations_by_node
from fairseq_revdarts.plots.agreement import chance_distance, distance, draw_agreement
from fairseq_revdarts.plots.cell import draw_genotype
from fairseq_revdarts.plots.layer import BOX_HEIGHT, BOX_WIDTH
from fairseq_revdarts.plots.search import POINTS, draw_search, smooth, thin
from fairseq_revdarts.plots.style import FAMILY_COLOURS, house_style, label, save_picture
from fairseq_revdarts.search_space import CANDIDATES, family

few = settings(deadline=None, max_examples=5)


def drawn(draw, *arguments):
    """A figure drawn on Agg, with its renderer."""
    with house_style():
        figure = draw(*arguments)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return figure, canvas.get_renderer()


def check_nothing_is_cut_off(figure, renderer):
    drawn_area, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert drawn_area.x0 >= -0.01 and drawn_area.y0 >= -0.01
    assert drawn_area.x1 <= width + 0.01 and drawn_area.y1 <= height + 0.01


# ------------------------------------------------------------------------------- genotypes


@few
@given(genotypes())
def test_every_operation_of_a_cell_is_in_its_place(tmp_path_factory, genotype):
    path = tmp_path_factory.getbasetemp() / "cell.svg"
    with house_style():
        save_picture(draw_genotype(genotype), str(path))
    _, groups = texts(path)
    for side in CANDIDATES:
        for i, layer in enumerate(getattr(genotype, side), start=1):
            for k, name in enumerate(layer, start=1):
                assert groups[f"{side}.{i}.{k}"] == label(name)


@few
@given(genotypes())
def test_a_cell_is_whole_and_its_boxes_hold_their_text(genotype):
    figure, renderer = drawn(draw_genotype, genotype)
    check_nothing_is_cut_off(figure, renderer)
    boxes = [text for text in figure.findobj(Text) if text.get_gid()]
    assert len(boxes) == sum(len(layer) for layer in genotype.encoder + genotype.decoder)
    for text in boxes:
        extent = text.get_window_extent(renderer)
        assert extent.width <= BOX_WIDTH * figure.dpi and extent.height <= BOX_HEIGHT * figure.dpi
    extents = [text.get_window_extent(renderer) for text in figure.findobj(Text) if text.get_text()]
    for index, extent in enumerate(extents):
        assert extent.count_overlaps(extents[:index]) == 0


@pytest.mark.parametrize("operation", sorted(CANDIDATES["decoder"]))
def test_every_operation_has_a_family_of_its_kind(operation):
    expected = {"dynamic": "dynamic convolution", "conv": "convolution", "cross": "attention"}
    expected.update(self="attention", glu="feed-forward", ffn="feed-forward")
    kind = operation.split("_")[0]
    assert family(operation) == expected.get(kind, "parameter-free")
    assert len(set(FAMILY_COLOURS.values())) == len(FAMILY_COLOURS)


# ------------------------------------------------------------------------------- searches


@few
@given(st.integers(1, 4), st.tuples(st.integers(2, 5), st.integers(1, 4)), st.integers(1, 40))
def test_every_nodes_winner_is_named_with_its_probability(tmp_path_factory, layers, splits, count):
    path = tmp_path_factory.getbasetemp() / "search.svg"
    entries = search_log(layers, layers, splits, count)
    with house_style():
        save_picture(draw_search(entries), str(path))
    written, _ = texts(path)
    names = {node: label(winner) for node, winner in winners(entries[-1]).items()}
    for node, row in entries[-1]["probabilities"].items():
        text = f"{names[node]}  {max(row.values()):.2f}"
        assert text in written
        written.remove(text)


@pytest.mark.parametrize(
    "log",
    [
        {},
        {"layers": 4, "splits": (5, 4), "count": 3},
        {"layers": 1, "splits": (2, 1), "extra": ["an_operation_with_a_name_longer_than_any"]},
        {"count": 1},
        {"loss": None, "alpha_loss": None, "parameter_free_share": 0.5, "stable": [1, 2]},
        {"loss": float("nan"), "alpha_loss": "none"},
    ],
    ids=["usual", "large", "a long name", "one update", "other fields", "no losses"],
)
def test_the_picture_of_a_search_is_whole(log):
    figure, renderer = drawn(draw_search, search_log(**log))
    check_nothing_is_cut_off(figure, renderer)


def test_losses_may_be_absent():
    entries = search_log()
    for entry in entries:
        del entry["loss"], entry["alpha_loss"]
    drawn(draw_search, entries)


def test_a_search_of_one_side_alone_is_drawn():
    figure, renderer = drawn(draw_search, search_log(splits=(2, 0)))
    check_nothing_is_cut_off(figure, renderer)


def test_long_curves_are_drawn_as_means():
    values = np.arange(10 * POINTS, dtype=float)
    assert len(thin(values)) == POINTS
    assert thin(values)[0] == 4.5
    assert thin(values).mean() == values.mean()
    assert thin(values[:POINTS]) is not values and (thin(values[:POINTS]) == values[:POINTS]).all()


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=60))
def test_running_means_stay_within_the_values(values):
    smoothed = smooth(np.array(values))
    assert len(smoothed) == len(values)
    assert min(values) - 1e-9 <= smoothed.min() and smoothed.max() <= max(values) + 1e-9
    assert np.allclose(smooth(np.full(len(values), 3.0)), 3.0)


# ------------------------------------------------------------------------------- agreement


def test_only_searched_nodes_are_compared():
    assert list(operations_by_node(TYPICAL)) == list(search_log()[0]["probabilities"])
    assert chance_distance(list(operations_by_node(TYPICAL))) == pytest.approx(
        1 - (1 / 13 + 1 / 14) / 2
    )


@given(st.sets(st.sampled_from(sorted(operations_by_node(TYPICAL)))))
def test_the_distance_is_the_share_of_nodes_that_differ(changed):
    first = operations_by_node(TYPICAL)
    second = {node: "zero" if node in changed else name for node, name in first.items()}
    assert distance(first, second) == distance(second, first) == len(changed) / len(first)


@pytest.mark.parametrize(
    ("layers", "splits", "searches"), [(2, (2, 2), 3), (4, (5, 4), 8), (1, (2, 1), 2)]
)
def test_the_picture_of_an_agreement_is_whole(layers, splits, searches):
    found = {f"a_long_name_{n}": searched(layers, splits, n) for n in range(searches)}
    figure, renderer = drawn(draw_agreement, found, dict.fromkeys(found))
    check_nothing_is_cut_off(figure, renderer)
    written = [text.get_text() for text in figure.findobj(Text)]
    for genotype in found.values():
        for name in operations_by_node(genotype).values():
            written.remove(label(name))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/1/search", "runs/2/search"], ["1", "2"]),
        (["a.json", "b.json"], ["a.json", "b.json"]),
        (["runs", "runs/old"], [".", "old"]),
        (["a/b/a", "a/a"], ["b", "."]),
    ],
)
def test_searches_are_named_by_what_tells_them_apart(paths, names):
    assert short_names(paths) == names
