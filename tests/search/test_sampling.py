"""The sampling baseline: one random path an update, and the best of many at each checkpoint."""

import math
import random
import re

import pytest
import torch
from fairseq.trainer import Trainer
from helpers import build_model, copy_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import TYPES, build, sample
from running import SEARCH, assert_same_weights, read_log, run, train, train_in_process, weights

from fairseq_revdarts.criterions.reversible_search import ReversibleSearchCriterion
from fairseq_revdarts.genotype import Genotype
from fairseq_revdarts.search import sampling
from fairseq_revdarts.search.active import active_on
from fairseq_revdarts.search.paths import MARK, mark_best, measure_paths, random_path
from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION
from fairseq_revdarts.tasks import bilevel_search

SAMPLING = [*SEARCH, "--search-strategy=sampling"]
SUPERNET = build_model(TYPES)


@settings(deadline=None)
@given(seed=st.integers(), update=st.integers(0), state=st.integers(0, 2**31))
def test_a_path_depends_on_the_seed_and_the_update_alone(seed, update, state):
    path = random_path(SUPERNET, seed, update)
    random.seed(state)
    torch.manual_seed(state)
    assert random_path(SUPERNET, seed, update) == path


def test_paths_are_those_of_searches_under_way():
    assert random_path(SUPERNET, 1, 0) == Genotype(
        "max",
        (("identity", "conv_5"), ("dynamic_conv_7", "conv_3")),
        (
            ("self_attention", "self_attention", CROSS_ATTENTION),
            ("zero", "dynamic_conv_11", CROSS_ATTENTION),
        ),
    )


def test_every_candidate_is_sampled_as_often():
    updates = 2000
    paths = [random_path(SUPERNET, 1, update) for update in range(updates)]
    for side, names in CANDIDATES.items():
        drawn = [getattr(path, side)[1][0] for path in paths]
        for name in names:
            assert abs(drawn.count(name) - updates / len(names)) < 50, name
    assert {path.decoder[0][-1] for path in paths} == {CROSS_ATTENTION}


def gradients(model):
    """Loss and gradients of a step, with dropout."""
    torch.manual_seed(1)
    loss = build(ReversibleSearchCriterion)(model, sample())[0]
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss, found


def test_within_a_path_the_supernet_is_the_derived_network():
    path = random_path(SUPERNET, 3, 0)
    derived = build_model(TYPES, genotype=path.to_json(), backprop="reconstruct")
    copy_weights(SUPERNET, derived, path)
    before = list(SUPERNET.state_dict())
    with SUPERNET.architecture.restricted_to(active_on(path)):
        loss, of_path = gradients(SUPERNET)
    # The one candidate of a derived network's node is its first.
    of_path = {re.sub(r"candidates\.\d+", "candidates.0", n): g for n, g in of_path.items()}
    expected_loss, expected = gradients(derived)
    assert torch.equal(loss, expected_loss) and of_path.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(of_path[name], gradient), name
    assert list(SUPERNET.state_dict()) == before
    assert len(gradients(SUPERNET)[1]) > len(expected)


def test_paths_have_the_losses_of_evaluation_per_token_and_the_best_is_marked():
    criterion, paths = build(ReversibleSearchCriterion), [random_path(SUPERNET, 5, n) for n in "ab"]
    losses = measure_paths(SUPERNET, criterion, lambda n: [sample(), {}][:n], True, paths, 2)
    assert losses.shape == (2, 1)
    losses = losses.sum(-1).tolist()
    with torch.no_grad():
        SUPERNET.eval()
        for path, loss in zip(paths, losses):
            with SUPERNET.architecture.restricted_to(active_on(path)):
                total, tokens, _ = criterion(SUPERNET, sample())
            assert loss == pytest.approx(float(total) / tokens)
        SUPERNET.train()
    mark_best(SUPERNET, dict(zip(paths, losses)))
    assert SUPERNET.architecture.genotype() == paths[losses.index(min(losses))]
    for alpha in SUPERNET.architecture.alphas():
        assert sorted(alpha.unique().tolist()) == [0, MARK] and (alpha.sum(-1) == MARK).all()
        assert (alpha.softmax(-1).amax(-1) > 0.999).all()


def test_of_paths_that_cannot_be_trusted_none_is_marked():
    one, other = (random_path(SUPERNET, 6, n) for n in "ab")
    mark_best(SUPERNET, {one: 1.0, other: 1.0})
    assert SUPERNET.architecture.genotype() == one
    mark_best(SUPERNET, {other: math.inf})
    assert SUPERNET.architecture.genotype() == one


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-epoch=2", "--save-interval=2"],
        ["--save-interval-updates=2", "--validate-after-updates=4", "--max-update=5"],
        ["--update-freq=2", "--skip-remainder-batch", "--max-epoch=2"],
        ["--update-freq=2", "--max-epoch=2"],
        ["--skip-remainder-batch", "--max-epoch=2"],
        ["--batch-size=3", "--update-freq=2", "--skip-remainder-batch", "--max-epoch=2"],
    ],
    ids=" ".join,
)
def test_the_best_path_is_marked_before_every_checkpoint(data, tmp_path, monkeypatch, flags):
    """Where all processes are: fairseq asks the first one alone for what it saves."""
    marked, saved = [], []
    monkeypatch.setattr(
        bilevel_search, "measure_paths", lambda *all_: marked.append(all_[3]) or torch.zeros(0, 1)
    )
    monkeypatch.setattr(sampling, "mark_best", lambda *arguments: None)
    save = Trainer.save_checkpoint
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda *arguments: saved.append(save(*arguments))
    )
    batches = ["--train-subset=valid", "--batch-size=4"]  # 3 of theta in an epoch; of 3 pairs, 4
    train_in_process(data, tmp_path, *SAMPLING, *batches, *flags, updates=9)
    assert marked == [True] * len(saved) and saved


def test_a_search_that_samples(data, tmp_path):
    """Its genotype is the one that derive finds; resumed, it goes on where it was."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    flags = [flag for flag in SAMPLING if flag != "--disable-validation"]
    train(data, straight, *flags, updates=4)
    train(data, resumed, *flags, updates=2)
    first = weights(resumed / "checkpoint_last.pt")
    train(data, resumed, *flags, updates=4)
    assert_same_weights(straight / "checkpoint_last.pt", resumed / "checkpoint_last.pt")
    genotype = (straight / "genotype.json").read_text()
    assert (resumed / "genotype.json").read_text() == genotype
    run("revdarts-derive", straight / "checkpoint_last.pt", "-o", tmp_path / "derived.json")
    assert (tmp_path / "derived.json").read_text() == genotype
    log = read_log(straight / "search.jsonl")
    assert [entry["alpha_loss"] for entry in log] == [None, None]
    assert first["architecture.encoder_step"] == 0
