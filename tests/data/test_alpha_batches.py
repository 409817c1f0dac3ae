"""alpha's batches, from any point on."""

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pairs import batches_of, content, iterator, pairs_in, translations

from fairseq_revdarts.data.alpha_batches import AlphaBatches
from fairseq_revdarts.data.divided import divide
from fairseq_revdarts.tasks.divided_translation import DividedTranslationTask

moderate = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)


WHOLE = translations(60)
_, ALPHA_SHARE = divide(WHOLE, 0.6, seed=1)
PER_EPOCH = len(batches_of(ALPHA_SHARE))


def start():
    return torch.tensor([1, 0, 0])


def test_each_epoch_holds_every_batch_once_in_an_order_of_its_own():
    assert PER_EPOCH % 2 == 1  # with two processes, one has a batch more
    batches = AlphaBatches(iterator(ALPHA_SHARE), start())
    epochs = [content(batches.take(PER_EPOCH)) for _ in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    words = {row[-2] for batch in epochs[0] for row in batch}
    assert len(words) == ALPHA_SHARE.members.sum()


def test_the_position_is_the_epoch_and_the_batches_and_pairs_taken_of_it():
    position = start()
    batches = AlphaBatches(iterator(ALPHA_SHARE), position)
    assert position.tolist() == [1, 0, 0]
    pairs = pairs_in(batches.take(2))
    assert position.tolist() == [1, 2, pairs]
    pairs += pairs_in(batches.take(PER_EPOCH - 3))
    assert position.tolist() == [1, PER_EPOCH - 1, pairs]
    pairs += pairs_in(batches.take(1))
    assert position.tolist() == [2, 0, 0] and pairs == ALPHA_SHARE.members.sum()
    batches.take(PER_EPOCH)
    pairs = pairs_in(batches.take(1))
    assert position.tolist() == [3, 1, pairs]


@moderate
@given(
    st.lists(st.integers(0, PER_EPOCH + 2), max_size=3),
    st.integers(1, 2 * PER_EPOCH + 1),
    st.sampled_from([(1, 0), (2, 0), (2, 1)]),
)
@example([PER_EPOCH], 1, (1, 0))
@example([PER_EPOCH - 1], 2, (1, 0))
@example([PER_EPOCH, PER_EPOCH], PER_EPOCH, (1, 0))
def test_from_the_same_position_come_the_same_batches(before, more, process):
    position = start()
    straight = AlphaBatches(iterator(ALPHA_SHARE, *process), position)
    for count in before:
        straight.take(count)
    restored = position.clone()
    expected = content(straight.take(more))

    resumed = AlphaBatches(iterator(ALPHA_SHARE, *process), restored)
    batches = [batch for _ in range(more) for batch in resumed.take(1)]

    assert content(batches) == expected
    assert restored.tolist() == position.tolist()


def test_two_processes_share_the_batches_between_them():
    rounds = (PER_EPOCH + 1) // 2
    positions = [start(), start()]
    taken = [
        content(AlphaBatches(iterator(ALPHA_SHARE, 2, rank), positions[rank]).take(rounds))
        for rank in (0, 1)
    ]
    alone = content(AlphaBatches(iterator(ALPHA_SHARE), start()).take(PER_EPOCH))
    assert taken[1][-1] is None
    assert sorted([*taken[0], *taken[1][:-1]]) == sorted(alone)
    assert [position.tolist() for position in positions] == [[2, 0, 0], [2, 0, 0]]


@moderate
@given(
    st.integers(0, PER_EPOCH - 1),
    st.sampled_from([12, 20, 40, 70, 400]),
    st.sampled_from([(1, 0), (2, 0), (2, 1)]),
)
@example(PER_EPOCH - 1, 400, (1, 0))
def test_with_batches_of_another_size_alpha_goes_on_after_as_many_pairs(taken, size, process):
    """To less than a batch of each process; within it, none is taken twice or left out."""
    number, rank = process
    position = start()
    AlphaBatches(iterator(ALPHA_SHARE, number), position).take(taken // number)
    epoch, _, pairs = position.tolist()
    resumed = AlphaBatches(iterator(ALPHA_SHARE, number, rank, max_tokens=size), position)
    resumed.take(1)
    *_, after = position.tolist()
    if position[0] == epoch:
        first = AlphaBatches(iterator(ALPHA_SHARE, number, max_tokens=size), start())
        sizes = np.cumsum([pairs_in([batch]) for batch in first.take(int(position[1]))])
        assert sizes[-1] == after > pairs and (len(sizes) == 1 or sizes[-2] >= pairs)
        assert len(sizes) < 3 or sizes[-3] < pairs
    else:
        assert position[0] > epoch  # nearly all of it was taken, or it is one batch


def test_a_position_without_pairs_of_an_older_checkpoint_counts_batches():
    positions = [torch.tensor([2, 2, -1]), torch.tensor([2, PER_EPOCH + 9, -1])]
    for position in positions:
        AlphaBatches(iterator(ALPHA_SHARE), position).take(1)
    assert [position[:2].tolist() for position in positions] == [[2, 3], [3, 1]]


@moderate
@given(st.integers(0, 2 * PER_EPOCH + 1), st.integers(0, PER_EPOCH - 1), st.integers(0, 2**31))
def test_taking_batches_leaves_the_random_state_as_it_was(count, offset, seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    before = torch.get_rng_state()
    AlphaBatches(iterator(ALPHA_SHARE), torch.tensor([2, offset, -1])).take(count)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = np.random.random()
    np.random.seed(seed)
    assert drawn == np.random.random()


@moderate
@given(st.integers(0, PER_EPOCH + 1), st.integers(1, PER_EPOCH + 3), st.integers(0, 1))
@example((PER_EPOCH + 1) // 2, PER_EPOCH, 1)  # at the end of an epoch
def test_the_first_batches_are_those_of_all_processes_whatever_alpha_has_taken(taken, count, rank):
    """And alpha goes on as if nobody had asked for them. None of them comes twice."""
    epochs = iterator(ALPHA_SHARE, 2, rank)()
    batches = AlphaBatches(lambda: epochs, start())
    straight = AlphaBatches(iterator(ALPHA_SHARE, 2, rank), start())
    assert content(batches.take(taken)) == content(straight.take(taken))
    task = SimpleNamespace(alpha_iterator=lambda: epochs, _alpha_share=ALPHA_SHARE)
    first = DividedTranslationTask.first_alpha_batches(task, count)
    expected = AlphaBatches(iterator(ALPHA_SHARE), start()).take(min(count, PER_EPOCH))
    assert content(first) == content(expected)
    assert content(batches.take(count)) == content(straight.take(count))


def test_nothing_is_built_before_the_first_batch_is_asked_for():
    built = []

    def build():
        built.append(True)
        return iterator(ALPHA_SHARE)()

    batches = AlphaBatches(build, start())
    assert not built
    batches.take(1)
    batches.take(PER_EPOCH)
    assert len(built) == 1
