"""The division of the training pairs, and alpha's batches from any point on."""

import random

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, LanguagePairDataset, ListDataset, data_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.tasks.translation import load_langpair_dataset
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from running import run

from fairseq_revdarts.data.divided import AlphaBatches, Share, divide

moderate = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)


def numbered(pairs):
    """A dataset of as many pairs, all of them different."""
    return repeating(range(pairs))


def repeating(numbers):
    """A dataset of pairs that are equal where their numbers are; each number's halves swap."""
    halves = [torch.tensor([number // 2, number % 2 * 9]) for number in numbers]
    return ListDataset([{"source": half[:1], "target": half[1:]} for half in halves])


def translations(pairs, shuffle=False):
    """A fairseq dataset of short pairs; both sides of a pair end with a word of its own."""
    dictionary = Dictionary()
    first = dictionary.add_symbol("0")
    for number in range(1, pairs):
        dictionary.add_symbol(str(number))
    sides = []
    for spread in (5, 7):
        lengths = [1 + number * number % spread for number in range(pairs)]
        tensors = [
            torch.tensor([*[first] * length, first + number, dictionary.eos()])
            for number, length in enumerate(lengths)
        ]
        sides.append((ListDataset(tensors, sizes=[len(t) for t in tensors]), np.array(lengths) + 2))
    (source, source_sizes), (target, target_sizes) = sides
    return LanguagePairDataset(
        source, source_sizes, dictionary, target, target_sizes, dictionary, shuffle=shuffle
    )


def batches_of(share, max_tokens=40):
    """Batches of indices, as fairseq's tasks build them."""
    with data_utils.numpy_seed(5):
        indices = share.ordered_indices()
    return share.batch_by_size(indices, max_tokens=max_tokens, required_batch_size_multiple=1)


def iterator(share, num_shards=1, shard_id=0, max_tokens=40):
    """Builds fairseq's iterator over a share."""
    batches = batches_of(share, max_tokens)
    return lambda: EpochBatchIterator(
        share, share.collater, batches, seed=3, num_shards=num_shards, shard_id=shard_id
    )


def pairs_in(batches):
    return sum(len(batch["id"]) for batch in batches)


def content(batches):
    """What identifies batches; one is None where another process has one more."""
    return [batch["net_input"]["src_tokens"].tolist() if batch else None for batch in batches]


# ------------------------------------------------------------------------------- the division


@moderate
@given(st.integers(2, 2000), st.floats(0, 1, exclude_min=True, exclude_max=True), seeds)
@example(2, 0.5, 0)
@example(2000, 0.444, 1)
def test_the_shares_are_disjoint_complete_and_as_large_as_asked(pairs, alpha_split, seed):
    try:
        theta, alpha = divide(numbered(pairs), alpha_split, seed)
    except ValueError:
        assert min(alpha_split, 1 - alpha_split) * pairs <= 0.5
        return
    assert len(theta.members) == len(alpha.members) == pairs
    assert (theta.members != alpha.members).all()
    assert abs(alpha.members.sum() - alpha_split * pairs) <= 0.5
    assert theta.members.any()
    assert alpha.members.any()


@moderate
@given(st.integers(2, 300), seeds, seeds)
def test_the_division_depends_on_the_seed_and_the_pairs_alone(pairs, seed, state):
    first = divide(numbered(pairs), 0.5, seed)
    np.random.seed(state)
    again = divide(numbered(pairs), 0.5, seed)
    after = np.random.random()
    np.random.seed(state)
    assert after == np.random.random()
    for one, other in zip(first, again):
        assert one.members.tolist() == other.members.tolist()


def test_the_division_is_the_one_of_searches_under_way():
    _, alpha = divide(numbered(20), 0.4, seed=1)
    assert np.flatnonzero(alpha.members).tolist() == [2, 3, 4, 6, 10, 14, 16, 17]


@moderate
@given(seeds, seeds)
def test_the_division_differs_with_the_seed(one, other):
    members = [divide(numbered(1000), 0.444, seed)[1].members for seed in (one, other)]
    assert (members[0].tolist() == members[1].tolist()) == (one == other)


@pytest.mark.parametrize(
    ("pairs", "alpha_split"), [(0, 0.5), (1, 0.4), (1, 0.6), (10, 0.04), (10, 0.96), (10, 1.0)]
)
def test_an_empty_share_is_an_error(pairs, alpha_split):
    for_alpha = round(pairs * alpha_split)
    expected = (
        f"--alpha-split {alpha_split}: of {pairs} training pairs it leaves "
        f"{pairs - for_alpha} to theta and {for_alpha} to alpha"
    )
    with pytest.raises(ValueError, match=expected):
        divide(numbered(pairs), alpha_split, seed=1)


repeats = st.lists(st.integers(1, 6), min_size=2, max_size=60)


@moderate
@given(repeats, st.floats(0.1, 0.9), seeds, st.randoms(use_true_random=False))
@example([1, 50], 0.5, 0, random.Random(0))
@example([3, 3], 0.2, 0, random.Random(0))
@example([16] * 8, 0.444, 1, random.Random(0))
def test_all_repeats_of_a_pair_are_in_one_share(counts, alpha_split, seed, shuffler):
    """And the shares are as large as asked, but for half of a pair's repeats."""
    numbers = [number for number, count in enumerate(counts) for _ in range(count)]
    shuffler.shuffle(numbers)
    for_alpha = round(alpha_split * len(numbers))
    assume(0 < for_alpha < len(numbers))
    theta, alpha = divide(repeating(numbers), alpha_split, seed)
    assert (theta.members != alpha.members).all()
    of_theta, of_alpha = (set(np.array(numbers)[share.members]) for share in (theta, alpha))
    assert of_theta and of_alpha and not of_theta & of_alpha
    missing = for_alpha - alpha.members.sum()
    smallest = min(counts[number] for number in of_theta)
    least = len(of_alpha) == 1 and missing < 0
    most = len(of_theta) == 1 and missing > 0
    assert abs(missing) <= smallest / 2 or least or most


def test_many_pairs_that_are_unique_fill_the_shares_exactly():
    numbers = [*range(500), *[500] * 40, *[501] * 3]
    for seed in range(20):
        _, alpha = divide(repeating(numbers), 0.444, seed)
        assert alpha.members.sum() == round(0.444 * len(numbers))


def test_pairs_that_are_all_equal_cannot_be_divided():
    with pytest.raises(ValueError, match=r"--alpha-split 0\.5: all 9 training pairs are equal"):
        divide(repeating([7] * 9), 0.5, seed=1)


@pytest.mark.parametrize("implementation", ["mmap", "cached"])
def test_pairs_that_fairseq_repeats(raw, data, tmp_path, implementation):
    """--upsample-primary, over two files of which the second repeats pairs of the first."""
    for language in ("en", "fr"):
        lines = (raw / f"pieces/train.{language}").read_text().splitlines(keepends=True)
        (tmp_path / f"first.{language}").write_text("".join(lines[:40]))
        (tmp_path / f"second.{language}").write_text("".join(lines[30:70]))
    run(
        *("fairseq-preprocess", "--source-lang=en", "--target-lang=fr", f"--destdir={tmp_path}"),
        *("--joined-dictionary", f"--srcdict={data / 'dict.en.txt'}"),
        *(f"--validpref={tmp_path}/first,{tmp_path}/second", f"--dataset-impl={implementation}"),
    )
    dictionary = Dictionary.load(str(data / "dict.en.txt"))
    languages = ("en", dictionary, "fr", dictionary)
    for times in (2, 16):
        whole = load_langpair_dataset(
            *(str(tmp_path), "valid", *languages, True, implementation, times, True, False, 99, 99)
        )
        theta, alpha = (
            {
                tuple(tuple(whole[index][side].tolist()) for side in ("source", "target"))
                for index in np.flatnonzero(share.members)
            }
            for share in divide(whole, 0.4, seed=1)
        )
        assert len(whole) == 40 * times + 40
        assert theta and alpha and not theta & alpha


# ------------------------------------------------------------------------------- shares


@moderate
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.booleans(), seeds)
def test_a_share_keeps_the_order_of_the_whole(members, shuffle, seed):
    whole = translations(len(members), shuffle)
    share = Share(whole, np.array(members))
    with data_utils.numpy_seed(seed):
        order = whole.ordered_indices()
    with data_utils.numpy_seed(seed):
        of_share = share.ordered_indices()
    assert of_share.tolist() == [index for index in order if members[index]]


@moderate
@given(st.integers(4, 60), st.floats(0.3, 0.7), seeds, st.sampled_from([12, 40, 400]))
@example(13, 0.444, 1, 400)
def test_the_batches_of_both_shares_hold_every_pair_once(pairs, alpha_split, seed, max_tokens):
    whole = translations(pairs, shuffle=True)
    shares = divide(whole, alpha_split, seed)
    batches = [batch for share in shares for batch in batches_of(share, max_tokens)]
    assert sorted(index for batch in batches for index in batch) == list(range(pairs))


def test_a_batch_holds_the_pairs_that_its_indices_name():
    whole = translations(30)
    for share in divide(whole, 0.4, seed=1):
        seen = []
        for batch in iterator(share)().next_epoch_itr():
            sides = zip(batch["id"], batch["net_input"]["src_tokens"], batch["target"])
            for index, source, target in sides:
                pair = whole[int(index)]
                assert source[-len(pair["source"]) :].tolist() == pair["source"].tolist()
                assert target[: len(pair["target"])].tolist() == pair["target"].tolist()
                seen.append(int(index))
        assert sorted(seen) == np.flatnonzero(share.members).tolist()


# ------------------------------------------------------------------------------- alpha's batches

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
