"""What is derived from alpha's numbers: operations, families, probabilities."""

import math

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fairseq_revdarts.derivation import (
    derive_cell,
    derive_genotype,
    entropy,
    non_finite_nodes,
    rows_by_node,
    softmax,
)
from fairseq_revdarts.search_space import (
    CANDIDATES,
    CROSS_ATTENTION,
    DECODER_CANDIDATES,
    ENCODER_CANDIDATES,
    family,
)

moderate = settings(deadline=None, max_examples=50)
sides = st.sampled_from(sorted(CANDIDATES))


@st.composite
def alphas(draw, side):
    """alpha of any shape, as nested lists of single-precision numbers; ties are likely."""
    number = st.floats(-100, 100, width=32) | st.sampled_from([-1.0, 0.0, 1.0])
    candidates = len(CANDIDATES[side])
    node = st.lists(number, min_size=candidates, max_size=candidates)
    splits = draw(st.integers(1, 4))
    layer = st.lists(node, min_size=splits, max_size=splits)
    return draw(st.lists(layer, min_size=1, max_size=3))


def uniform(side, layers=1, splits=1):
    return [[[0.0] * len(CANDIDATES[side]) for _ in range(splits)] for _ in range(layers)]


@moderate
@given(sides.flatmap(lambda side: st.tuples(st.just(side), alphas(side))))
def test_derive_cell_takes_the_argmax(drawn):
    side, alpha = drawn
    cell = derive_cell(side, alpha)
    assert len(cell) == len(alpha)
    for names, nodes in zip(cell, alpha):
        fixed = (CROSS_ATTENTION,) if side == "decoder" else ()
        assert names[len(nodes) :] == fixed
        for name, node in zip(names, nodes):
            assert node[CANDIDATES[side].index(name)] == max(node)


@moderate
@given(
    sides.flatmap(lambda side: st.tuples(st.just(side), alphas(side))),
    st.sets(st.sampled_from(DECODER_CANDIDATES)),
)
@example(("encoder", [[[0.0] * 13]]), {"conv_3"})
@example(("encoder", [[[-1.0] * 13]]), set(ENCODER_CANDIDATES) - {"identity"})
def test_derive_cell_takes_the_argmax_of_what_is_not_excluded(drawn, exclude):
    side, alpha = drawn
    assume(set(CANDIDATES[side]) - exclude)
    cell = derive_cell(side, alpha, sorted(exclude))
    for names, nodes in zip(cell, alpha):
        for name, node in zip(names, nodes):
            assert name not in exclude
            rest = [
                value
                for candidate, value in zip(CANDIDATES[side], node)
                if candidate not in exclude
            ]
            assert node[CANDIDATES[side].index(name)] == max(rest)


@moderate
@given(
    sides.flatmap(lambda side: st.tuples(st.just(side), alphas(side))),
    st.sets(st.sampled_from(DECODER_CANDIDATES)),
)
def test_derive_cell_by_family_takes_the_argmax_of_families_and_within_one(drawn, exclude):
    side, alpha = drawn
    assume(set(CANDIDATES[side]) - exclude)
    cell = derive_cell(side, alpha, sorted(exclude), by_family=True)
    for names, nodes in zip(cell, alpha):
        for chosen, node in zip(names, nodes):
            left = {n: value for n, value in zip(CANDIDATES[side], node) if n not in exclude}
            mass = dict.fromkeys(map(family, left), 0.0)
            for name, value in left.items():
                mass[family(name)] += math.exp(value - max(left.values()))
            assert mass[family(chosen)] >= (1 - 1e-5) * max(mass.values())
            assert left[chosen] == max(v for n, v in left.items() if family(n) == family(chosen))


def test_many_that_can_stand_in_for_each_other_win_by_family_alone():
    # ffn has 0.18; four convolutions, 0.27 in all
    alpha = [[[{"ffn": 1.0, "dynamic_conv_7": 0.1}.get(name, 0.0) for name in ENCODER_CANDIDATES]]]
    assert derive_cell("encoder", alpha) == (("ffn",),)
    assert derive_cell("encoder", alpha, by_family=True) == (("dynamic_conv_7",),)


@pytest.mark.parametrize("side", CANDIDATES)
def test_each_candidate_is_found_under_its_name(side):
    candidates = CANDIDATES[side]
    (layer,) = derive_cell(side, [[[float(i == k) for i in candidates] for k in candidates]])
    assert layer[: len(candidates)] == candidates


def test_derive_cell_leaves_alpha_as_it_was():
    alpha = uniform("encoder")
    derive_cell("encoder", alpha, ENCODER_CANDIDATES[:5])
    assert alpha == uniform("encoder")


@pytest.mark.parametrize("side", CANDIDATES)
def test_excluding_everything_is_an_error(side):
    with pytest.raises(ValueError, match=f"all {side} operations"):
        derive_cell(side, uniform(side), CANDIDATES[side])


@pytest.mark.parametrize("side", CANDIDATES)
def test_excluding_an_unknown_operation_is_an_error(side):
    with pytest.raises(ValueError, match=r"'conv_4'.*identity.*cross_attention"):
        derive_cell(side, uniform(side), ["ffn", "conv_4"])


@pytest.mark.parametrize("side", CANDIDATES)
def test_alpha_of_another_search_space_is_an_error(side):
    alpha = [[[0.0] * (len(CANDIDATES[side]) + 1)]]
    with pytest.raises(ValueError, match=f"{side}: alpha is not of the"):
        derive_cell(side, alpha)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_genotype_has_the_shape_and_the_pooling_of_the_search(pooling):
    tables = {"encoder": uniform("encoder", 3, 2), "decoder": uniform("decoder", 3, 3)}
    genotype = derive_genotype(tables, pooling, exclude=["conv_3"])
    assert genotype.pooling == pooling
    assert [len(layer) for layer in genotype.encoder] == [2, 2, 2]
    assert [len(layer) for layer in genotype.decoder] == [4, 4, 4]
    for side in CANDIDATES:
        assert getattr(genotype, side) == derive_cell(side, tables[side], ["conv_3"])


@moderate
@given(sides.flatmap(lambda side: st.tuples(st.just(side), alphas(side))))
def test_probabilities_and_entropy_are_those_of_torch(drawn):
    side, alpha = drawn
    for row in rows_by_node(side, alpha).values():
        expected = torch.tensor(row, dtype=torch.float64).softmax(0)
        assert softmax(row) == pytest.approx(expected.tolist())
        entropies = torch.special.entr(expected).sum().item()
        assert entropy(softmax(row)) == pytest.approx(entropies, abs=1e-12)


def test_the_nodes_that_are_not_finite_are_named():
    tables = {"encoder": uniform("encoder", 2, 2), "decoder": uniform("decoder", 2, 2)}
    assert non_finite_nodes(tables) == []
    tables["encoder"][1][0][3] = math.nan
    tables["decoder"][0][1][0] = -math.inf
    assert non_finite_nodes(tables) == ["encoder.2.1", "decoder.1.2"]
