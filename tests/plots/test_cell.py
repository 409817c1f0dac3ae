"""The picture of a genotype, and the layer of the front page: everything is in its place."""

import runpy
from pathlib import Path

import pytest
from helpers import genotypes
from hypothesis import given, settings
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from pictures import check_whole, drawn, texts, visible_texts

from fairseq_revdarts.plots.cell import draw_genotype
from fairseq_revdarts.plots.layer import BOX_HEIGHT, BOX_WIDTH
from fairseq_revdarts.plots.style import FAMILY_COLOURS, PALE_INK, house_style, label, save_picture
from fairseq_revdarts.search_space import CANDIDATES, family

few = settings(deadline=None, max_examples=5)
PALE = PALE_INK.lower()
PICTURES = Path(__file__).parents[2] / "examples/pictures"


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
    check_whole(figure, renderer)
    boxes = [text for text in figure.findobj(Text) if text.get_gid()]
    assert len(boxes) == sum(len(layer) for layer in genotype.encoder + genotype.decoder)
    for text in boxes:
        extent = text.get_window_extent(renderer)
        assert extent.width <= BOX_WIDTH * figure.dpi and extent.height <= BOX_HEIGHT * figure.dpi


def boxes_of(figure):
    """The left edge, bottom and colour of all boxes of operations."""
    patches = [patch for patch in figure.findobj(FancyBboxPatch) if patch.get_width() == BOX_WIDTH]
    return [(patch.get_x(), patch.get_y(), to_hex(patch.get_facecolor())) for patch in patches]


@few
@given(genotypes())
def test_boxes_have_the_colours_of_the_legend(genotype):
    figure, _ = drawn(draw_genotype, genotype)
    shades = {shade.lower(): name for name, shade in FAMILY_COLOURS.items()}
    drawn_families = {shades[fill] for _, _, fill in boxes_of(figure)}
    operations = {name for layer in genotype.encoder + genotype.decoder for name in layer}
    assert drawn_families == set(map(family, operations))
    (legend,) = figure.legends
    patches = zip(legend.get_texts(), legend.get_patches())
    entries = {text.get_text(): to_hex(patch.get_facecolor()) for text, patch in patches}
    assert entries == {name: FAMILY_COLOURS[name].lower() for name in drawn_families}


@few
@given(genotypes())
def test_the_encoders_output_ends_at_every_cross_attention(genotype):
    figure, _ = drawn(draw_genotype, genotype)
    (axes,) = figure.axes
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None)]
    pale = [arrow.xy for arrow in arrows if to_hex(arrow.arrow_patch.get_edgecolor()) == PALE]
    boxes = [text for text in axes.texts if text.get_text() == "cross\nattention"]
    assert len(pale) == len(boxes)
    for box in boxes:
        x, y = box.get_position()
        (end,) = [end for end in pale if abs(end[1] - y) < BOX_HEIGHT / 2]
        assert end[0] == pytest.approx(x - BOX_WIDTH / 2)


def test_the_layer_of_the_front_page_is_whole_and_large_enough():
    figure, renderer = drawn(runpy.run_path(str(PICTURES / "draw.py"))["draw"])
    check_whole(figure, renderer)
    written = [text for text in visible_texts(figure) if "$" not in text.get_text()]
    points_at_800_pixels = 800 / figure.get_size_inches()[0] / 72
    assert min(text.get_fontsize() for text in written) * points_at_800_pixels > 8
