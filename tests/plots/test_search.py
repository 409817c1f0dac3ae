"""The picture of a search: who competes in every node, when alpha moves, and nothing cut off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from pictures import check_whole, drawn, search_log, texts

from fairseq_revdarts.plots.search import (
    AREA_POINTS,
    FROZEN,
    POINTS,
    draw_search,
    entropy_share,
    frozen_until,
    smooth,
    thin,
)
from fairseq_revdarts.plots.style import house_style, label, save_picture

few = settings(deadline=None, max_examples=5)


@few
@given(st.integers(1, 4), st.tuples(st.integers(2, 5), st.integers(1, 4)), st.integers(1, 40))
def test_every_nodes_winner_and_runner_up_are_named(tmp_path_factory, layers, splits, count):
    path = tmp_path_factory.getbasetemp() / "search.svg"
    entries = search_log(layers, layers, splits, count)
    with house_style():
        save_picture(draw_search(entries), str(path))
    written, _ = texts(path)
    for row in entries[-1]["probabilities"].values():
        for name in sorted(row, key=row.get)[-2:]:
            written.remove(f"{label(name)}  {row[name]:.2f}")


def areas_of(panel):
    """Of the candidates; in matplotlib 3.7 the veil over the beginning is a polygon as well."""
    polygons = panel.findobj(Polygon)
    return [polygon.get_xy() for polygon in polygons if polygon.get_label() != FROZEN]


def eliminating(entries):
    """The same search, in which a candidate is eliminated at each entry until one is left."""
    for number, entry in enumerate(entries):
        for row in entry["probabilities"].values():
            dead = list(row)[: min(number, len(row) - 1)]
            row.update(dict.fromkeys(dead, 0.0))
            total = sum(row.values())
            row.update({name: value / total for name, value in row.items()})
    return entries


def test_eliminated_candidates_have_no_area_and_no_name():
    entries = eliminating(search_log())
    figure, renderer = drawn(draw_search, entries)
    check_whole(figure, renderer)
    panel = figure.findobj(lambda artist: hasattr(artist, "xaxis"))[0]
    areas = areas_of(panel)
    ends = sorted(area[area[:, 0] == entries[-1]["update"], 1].max() for area in areas)
    assert len(areas) == 13 and ends == pytest.approx([0] * 12 + [1])
    names = [text.get_text() for text in panel.texts]
    assert "identity  1.00" in names and not any("0.00" in name for name in names)


def test_a_mark_ends_the_area_of_an_eliminated_candidate():
    entries = eliminating(search_log())
    figure, _ = drawn(draw_search, entries)
    panel = figure.findobj(lambda artist: hasattr(artist, "xaxis"))[0]
    marks = [line.get_xydata()[0] for line in panel.lines if line.get_marker() == "x"]
    assert sorted(x for x, _ in marks) == [entry["update"] for entry in entries[:12]]
    areas = areas_of(panel)
    for x, y in marks:  # in the area that ends there, between its two edges
        edges = sorted(area[area[:, 0] == x, 1].max() for area in areas)
        assert any(low < y < high for low, high in zip([0, *edges], edges))
    undecided, _ = drawn(draw_search, search_log())
    assert not [line for line in undecided.findobj(Line2D) if line.get_marker() == "x"]


@few
@given(st.integers(1, 500))
def test_areas_show_the_probabilities_of_the_log(count):
    entries = search_log(layers=1, splits=(1, 0), count=count)
    figure, _ = drawn(draw_search, entries)
    (panel, *_) = figure.findobj(lambda artist: hasattr(artist, "xaxis"))
    areas = areas_of(panel)
    assert max(map(len, areas)) <= AREA_POINTS + 5
    tops = sorted(area[area[:, 0] == entries[-1]["update"], 1].max() for area in areas)
    heights = np.diff([0, *tops])
    last = entries[-1]["probabilities"]["encoder.1.1"]
    assert sorted(heights) == pytest.approx(sorted(last.values()))
    assert tops[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("losses", "until"),
    [
        ([1.0, 2.0], 0),
        ([None, None, 1.0, None], 20),
        ([None, None], 20),
        ([None], 10),
        (["none"], 0),
    ],
)
def test_alpha_is_frozen_until_its_loss_is_measured(losses, until):
    entries = search_log(count=len(losses))
    for entry, loss in zip(entries, losses):
        entry["alpha_loss"] = loss
    assert frozen_until(entries) == until
    figure, renderer = drawn(draw_search, entries)
    check_whole(figure, renderer)
    shades = [a for a in figure.findobj() if str(a.get_label()) == FROZEN and a.axes is not None]
    panels = figure.findobj(lambda artist: hasattr(artist, "xaxis"))
    assert {shade.axes for shade in shades} == (set(panels) if until else set())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_entropy_is_a_share_of_uniform(weights):
    total = sum(weights)
    probabilities = [w / total if total > 0 else 1 / len(weights) for w in weights]
    row = {str(k): np.array([p, 1 / len(weights), k == 0]) for k, p in enumerate(probabilities)}
    shares = entropy_share(row)
    assert (shares > -1e-9).all() and (shares < 1 + 1e-9).all()
    assert shares[1] == pytest.approx(1 if len(weights) > 1 else 0)
    assert shares[2] == 0


@pytest.mark.parametrize(
    "log",
    [
        {},
        {"layers": 4, "splits": (5, 4), "count": 3},
        {"layers": 1, "splits": (2, 1), "extra": ["an_operation_with_a_name_longer_than_any"]},
        {"count": 1},
        {"loss": None, "alpha_loss": None, "parameter_free_share": 0.5, "stable": [1, 2]},
        {"loss": float("nan"), "alpha_loss": "none"},
        {"cost": 12e6, "cost_limit": 10e6},
    ],
    ids=["usual", "large", "a long name", "one update", "other fields", "no losses", "a budget"],
)
def test_the_picture_of_a_search_is_whole(log):
    figure, renderer = drawn(draw_search, search_log(**log))
    check_whole(figure, renderer)
    titles = [axes.get_title() for axes in figure.findobj(lambda artist: hasattr(artist, "xaxis"))]
    assert ("expected cost" in titles) == ("cost" in log)


def test_losses_may_be_absent():
    entries = search_log()
    for entry in entries:
        del entry["loss"], entry["alpha_loss"]
    drawn(draw_search, entries)


def test_a_search_of_one_side_alone_is_drawn():
    figure, renderer = drawn(draw_search, search_log(splits=(2, 0)))
    check_whole(figure, renderer)


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
