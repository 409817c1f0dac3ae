"""The strip plot of many networks: every network a dot, kinds in the order of their mean loss."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from pictures import check_whole, drawn, visible_texts

from fairseq_revdarts.plots.networks import RANDOM, draw_networks

few = settings(deadline=None, max_examples=10)
kinds = st.sampled_from([RANDOM, "transformer", "found by elimination", "families"])
losses = st.floats(3, 4).map(lambda x: round(x, 3))
networks = st.fixed_dictionaries(
    {"kind": kinds, "loss": losses, "bleu": st.floats(0, 40).map(lambda x: round(x, 2))},
    optional={
        "genotype": st.sampled_from(["", "one", "other"]),
        "pair": st.sampled_from(["en-de", "en-fr", "en-cs"]),
    },
)


@few
@given(st.lists(networks, min_size=1, max_size=40))
def test_every_network_is_a_dot_in_the_panels_of_its_pair(networks):
    figure, renderer = drawn(draw_networks, networks)
    check_whole(figure, renderer)
    by_pair = {}
    for network in networks:
        by_pair.setdefault(network.get("pair", ""), []).append(network)
    assert len(figure.axes) == 2 * len(by_pair)
    written = [text.get_text() for text in visible_texts(figure)]
    for (pair, members), panels in zip(by_pair.items(), zip(*[iter(figure.axes)] * 2)):
        assert panels[0].get_ylabel() == pair
        check_panels(panels, members, written)


def mean(networks, key):
    """Each genotype counts once."""
    seeds = {}
    for number, network in enumerate(networks):
        seeds.setdefault(network.get("genotype") or number, []).append(network[key])
    return np.mean([np.mean(values) for values in seeds.values()])


def test_a_genotype_of_three_seeds_counts_once():
    losses = [3.0, 3.2, 3.4, 3.8]
    common = {"kind": "found", "bleu": 20.0}
    networks = [{**common, "genotype": n, "loss": x} for n, x in zip("aaab", losses)]
    figure, _ = drawn(draw_networks, networks)
    assert "3.500" in [text.get_text() for text in visible_texts(figure)]


def check_panels(panels, networks, written):
    """Every network is a dot in the row of its kind; the lowest mean loss is on top."""
    by_kind = {}
    for network in networks:
        by_kind.setdefault(network["kind"], []).append(network)
    means = {kind: mean(members, "loss") for kind, members in by_kind.items()}
    labels = [text.get_text() for text in panels[0].get_yticklabels()]
    order = [text.rsplit(" (", 1)[0] for text in labels]
    assert sorted(order) == sorted(by_kind)
    assert [means[kind] for kind in order] == sorted(means.values())
    for axes, key, form in zip(panels, ("loss", "bleu"), (".3f", ".2f")):
        rows = axes.findobj(PathCollection)
        for number, (kind, dots) in enumerate(zip(order, rows)):
            values, heights = dots.get_offsets().T
            expected = [network[key] for network in by_kind[kind]]
            assert sorted(values) == sorted(expected)
            assert (abs(heights - number) < 0.3).all()
            assert labels[number] == f"{kind} ({len(expected)})"
            assert format(mean(by_kind[kind], key), form) in written


def test_equal_networks_are_told_apart_and_a_single_kind_has_no_reference():
    figure, renderer = drawn(draw_networks, [{"kind": RANDOM, "loss": 3.4, "bleu": 28.0}] * 5)
    check_whole(figure, renderer)
    dots = figure.axes[0].findobj(PathCollection)[0].get_offsets()
    assert len(set(dots[:, 1])) == 5
    assert "mean of random" not in [text.get_text() for text in visible_texts(figure)]
