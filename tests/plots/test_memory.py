"""The picture of a profile: flat or growing, with labels that do not touch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import check_whole, drawn, visible_texts

from fairseq_revdarts.plots.memory import MODES, Profile, draw_memory

few = settings(deadline=None, max_examples=10)
used = st.floats(0.01, 1e6)


@few
@given(st.sets(st.integers(1, 48), min_size=2, max_size=6), st.data())
def test_the_picture_of_a_profile_is_whole(depths, data):
    rows = {mode: {depth: data.draw(used) for depth in depths} for mode in MODES}
    figure, renderer = drawn(draw_memory, Profile("on two cores", rows))
    check_whole(figure, renderer)
    written = [text.get_text() for text in visible_texts(figure)]
    for mode, row in rows.items():
        assert f"{mode}: {row[max(depths)]:,.0f} MB" in written
    (axes,) = figure.axes
    assert axes.get_ylim()[0] == 0  # what is flat does not look as if it grew
    lines = {tuple(line.get_ydata()) for line in axes.lines}
    assert lines == {tuple(row[depth] for depth in sorted(depths)) for row in rows.values()}


def test_a_mode_that_ran_out_of_memory_says_so():
    flat, growing = {2: 30.0, 4: 30.0, 8: 30.0}, {2: 100.0, 4: 200.0}
    rows = {"reconstruct": flat, "checkpoint": {}, "store": growing}
    figure, renderer = drawn(draw_memory, Profile("on a small GPU", rows))
    check_whole(figure, renderer)
    written = [text.get_text() for text in visible_texts(figure)]
    assert "store: 200 MB,\nthen out of memory" in written and "reconstruct: 30 MB" in written
    assert not any("checkpoint" in text for text in written)


@pytest.mark.parametrize("equal", [1e-3, 33.0])
def test_equal_modes_keep_their_labels_apart(equal):
    rows = {mode: {1: equal, 2: equal} for mode in MODES}
    figure, renderer = drawn(draw_memory, Profile("", rows))
    check_whole(figure, renderer)
