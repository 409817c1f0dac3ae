"""The division of the training pairs between theta and alpha."""

import random

import numpy as np
import pytest
from fairseq.data import Dictionary, data_utils
from fairseq.tasks.translation import load_langpair_dataset
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pairs import batches_of, iterator, numbered, repeating, translations
from running import run

from fairseq_revdarts.data.divided import Share, divide

moderate = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)


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
