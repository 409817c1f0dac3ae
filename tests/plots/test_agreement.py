"""The picture of several searches: what each chose, and how far they agree."""

import pytest
from helpers import TYPICAL
from hypothesis import given
from hypothesis import strategies as st
from pictures import check_whole, drawn, search_log, searched, visible_texts

from fairseq_revdarts.cli.plot import short_names
from fairseq_revdarts.genotype import operations_by_node
from fairseq_revdarts.plots.agreement import (
    LEVELS,
    agreement,
    chance_agreement,
    draw_agreement,
)
from fairseq_revdarts.plots.style import label

CHOSEN = operations_by_node(TYPICAL)


def test_only_searched_nodes_are_compared():
    assert list(CHOSEN) == list(search_log()[0]["probabilities"])
    by_chance = chance_agreement(list(CHOSEN), LEVELS["operation"])
    assert by_chance == pytest.approx((1 / 13 + 1 / 14) / 2)
    # 4 convolutions, 4 dynamic ones, 2 feed-forward, 2 without weights, and 1 or 2 attentions
    by_chance = chance_agreement(list(CHOSEN), LEVELS["family"])
    assert by_chance == pytest.approx((41 / 13**2 + 44 / 14**2) / 2)


@given(st.sets(st.sampled_from(sorted(CHOSEN))))
def test_agreement_is_the_share_of_nodes_with_the_same_choice(changed):
    other = {node: "zero" if node in changed else name for node, name in CHOSEN.items()}
    expected = 1 - len(changed) / len(CHOSEN)
    for same in LEVELS.values():
        assert agreement([CHOSEN, other], same) == agreement([other, CHOSEN], same) == expected
        assert agreement([CHOSEN, CHOSEN, other], same) == pytest.approx((1 + 2 * expected) / 3)


def test_operations_of_one_family_agree_on_it():
    first = dict.fromkeys(CHOSEN, "conv_3")
    second = dict.fromkeys(CHOSEN, "conv_5")
    assert agreement([first, second], LEVELS["operation"]) == 0
    assert agreement([first, second], LEVELS["family"]) == 1


@pytest.mark.parametrize(
    ("layers", "splits", "searches"), [(2, (2, 2), 3), (4, (5, 4), 8), (1, (2, 1), 2)]
)
def test_the_picture_of_an_agreement_is_whole(layers, splits, searches):
    found = {f"a_long_name_of_a_search_{n}": searched(layers, splits, n) for n in range(searches)}
    figure, renderer = drawn(draw_agreement, found)
    check_whole(figure, renderer)
    written = [text.get_text() for text in visible_texts(figure)]
    for name, genotype in found.items():
        assert any(text.replace("\n", "").endswith(name[-12:]) for text in written)
        for operation in operations_by_node(genotype).values():
            written.remove(label(operation))


def test_how_many_agree_is_counted_for_every_node():
    found = {"one": TYPICAL, "two": TYPICAL, "three": searched(2, (2, 2), 0)}
    figure, _ = drawn(draw_agreement, found)
    written = [text.get_text() for text in visible_texts(figure)]
    counts = [text for text in written if text.endswith(" of 3")]
    assert len(counts) == 2 * len(CHOSEN) and set(counts) == {"2 of 3", "3 of 3"}


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
