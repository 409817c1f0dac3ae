"""Evolution of paths: mutation, selection, and searches through fairseq's command."""

import random
from types import SimpleNamespace

import pytest
import torch
from helpers import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import TYPES
from processes import train_together
from running import SEARCH, assert_same_weights, train_in_process

from fairseq_revdarts.genotype import load_genotype, operations_by_node
from fairseq_revdarts.search import evolution
from fairseq_revdarts.search.evolution import Evolution, mutated
from fairseq_revdarts.search.paths import random_path
from fairseq_revdarts.search_space import CANDIDATES, FIXED_LAST_OPERATION
from fairseq_revdarts.tasks.bilevel_search import BilevelSearchTask

EVOLUTION = [*SEARCH, "--search-strategy=evolution", "--train-subset=valid", "--batch-size=4"]
SOME = {"encoder": ("conv_3", "ffn"), "decoder": ("self_attention",)}
SUPERNET = build_model(TYPES)
RESTRICTED = build_model(TYPES, **{f"{side}_candidates": ",".join(SOME[side]) for side in SOME})


def different(one, other):
    before, after = operations_by_node(one), operations_by_node(other)
    return [node for node in before if before[node] != after[node]]


@settings(deadline=None)
@given(seed=st.integers())
def test_a_child_differs_in_one_node_by_another_candidate(seed):
    for supernet, candidates in ((SUPERNET, CANDIDATES), (RESTRICTED, SOME)):
        parent = random_path(supernet, seed, "parent")
        child = mutated(parent, random.Random(seed), candidates)
        assert len(different(parent, child)) == 1
        for node, name in operations_by_node(child).items():
            side = node.split(".")[0]
            assert name in (*candidates[side], *FIXED_LAST_OPERATION[side])


def test_without_another_candidate_there_is_no_mutation():
    one = {side: (names[0],) for side, names in CANDIDATES.items()}
    model = build_model(TYPES, **{f"{side}_candidates": one[side][0] for side in one})
    path = random_path(model, 1, 0)
    assert mutated(path, random.Random(1), one) == path


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99))
def test_a_loss_that_is_a_sum_over_the_nodes_is_brought_near_its_least(seed):
    """Of random genotypes as many, the best one is behind, and no path is measured twice."""
    generator = random.Random(f"weights {seed}")
    weights = {name: generator.random() for name in CANDIDATES["decoder"]}
    measured = []

    def loss(path):
        return sum(weights[name] for name in operations_by_node(path).values())

    def measure(paths, batches):
        measured.extend(paths)
        return torch.tensor([[loss(path)] for path in paths], dtype=torch.float64)

    rule = Evolution(SUPERNET, SimpleNamespace(seed=seed))
    losses = rule._evolve(measure)
    assert len(measured) == len(set(measured)) == len(losses)
    randomly = [random_path(SUPERNET, seed, f"other {number}") for number in range(len(losses))]
    assert min(losses.values()) < min(map(loss, randomly))


@pytest.fixture
def small(monkeypatch):
    """An evolution of a few paths."""
    for name, value in (("FIRST", 4), ("GENERATIONS", 2), ("CHILDREN", 3), ("PARENTS", 2)):
        monkeypatch.setattr(evolution, name, value)


def test_the_end_of_a_search_is_an_evolution_and_resuming_changes_nothing(
    data, tmp_path, caplog, small
):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    with caplog.at_level("INFO"):
        train_in_process(data, straight, *EVOLUTION, updates=4)
    assert caplog.text.count("of 2: ") == 3
    caplog.clear()
    with caplog.at_level("INFO"):
        train_in_process(data, resumed, *EVOLUTION, "--max-epoch=1", updates=4)
    assert "paths are bred after update 4, --max-update" in caplog.text
    train_in_process(data, resumed, *EVOLUTION, updates=4)
    assert_same_weights(straight / "checkpoint_last.pt", resumed / "checkpoint_last.pt")
    assert (straight / "genotype.json").read_text() == (resumed / "genotype.json").read_text()


def test_the_batches_that_paths_are_measured_on_are_read_once(data, tmp_path, monkeypatch, small):
    read, first = [], BilevelSearchTask.first_alpha_batches

    def counted(task, count):
        read.append(count)
        return first(task, count)

    monkeypatch.setattr(BilevelSearchTask, "first_alpha_batches", counted)
    train_in_process(data, tmp_path, *EVOLUTION, updates=2)
    assert read == [evolution.BATCHES]


def test_two_processes_breed_what_one_does(data, tmp_path):
    flags = [*EVOLUTION, "--ddp-backend=legacy_ddp", "--max-update=1", "--batch-size=2"]
    train_together(data, tmp_path / "two", *flags)
    train_together(data, tmp_path / "one", *flags, "--update-freq=2", processes=1)
    one, two = (load_genotype(str(tmp_path / name / "genotype.json")) for name in ("one", "two"))
    assert one == two
