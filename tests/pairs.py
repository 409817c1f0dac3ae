"""Datasets of short pairs, and batches of them."""

import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset, ListDataset, data_utils
from fairseq.data.iterators import EpochBatchIterator


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
    """Builds fairseq's iterator over a share, with the seed 3."""
    batches = batches_of(share, max_tokens)
    return lambda: EpochBatchIterator(
        *(share, share.collater, batches, 3, num_shards, shard_id),
        reuse_dataloader=True,  # as those tasks do
    )


def pairs_in(batches):
    return sum(len(batch["id"]) for batch in batches)


def content(batches):
    """What identifies batches; one is None where another process has one more."""
    return [batch["net_input"]["src_tokens"].tolist() if batch else None for batch in batches]
