"""The division of the training pairs between theta and alpha, and alpha's batches."""

import copy
import hashlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, FairseqDataset, data_utils
from fairseq.data.iterators import EpochBatchIterator
from torch import Tensor


class Share(BaseWrapperDataset):
    """Part of a dataset, under the indices that its examples have in the whole.

    Args:
        dataset: the whole
        members: (len(dataset),), True for the examples of this share
    """

    def __init__(self, dataset: FairseqDataset, members: np.ndarray):
        super().__init__(dataset)
        self.members = members

    def ordered_indices(self) -> np.ndarray:
        """The whole's order, without the examples of other shares."""
        indices = self.dataset.ordered_indices()
        return indices[self.members[indices]]


def divide(dataset: FairseqDataset, alpha_split: float, seed: int) -> Tuple[Share, Share]:
    """Divide training pairs at random into theta's share and alpha's.

    All repeats of a pair come into the same share. The division depends on nothing but `seed` and
    the pairs; if there are no repeats, on nothing but their number. Every pair is read once, which
    takes about 15 us, and about 50 bytes of memory for the time being.

    Args:
        dataset: all training pairs, as fairseq's LanguagePairDataset
        alpha_split: alpha's share of them, between 0 and 1
        seed: of the division

    Raises:
        ValueError: one of the shares is empty, or all pairs are equal
    """
    pairs = len(dataset)
    for_alpha = round(alpha_split * pairs)
    if not 0 < for_alpha < pairs:
        raise ValueError(
            f"--alpha-split {alpha_split}: of {pairs} training pairs it leaves "
            f"{pairs - for_alpha} to theta and {for_alpha} to alpha; both need at least one"
        )
    with data_utils.numpy_seed(seed):
        order = np.random.permutation(pairs)
    # Groups of equal pairs, numbered by their first place in the random order.
    _, first, group, sizes = np.unique(
        fingerprints(dataset)[order], return_index=True, return_inverse=True, return_counts=True
    )
    by_place = np.argsort(first)
    taken = np.empty(len(sizes), dtype=bool)
    taken[by_place] = choose_groups(sizes[by_place], for_alpha)
    if taken.all() or not taken.any():
        raise ValueError(
            f"--alpha-split {alpha_split}: all {pairs} training pairs are equal; theta and alpha "
            "need at least one of their own"
        )
    members = np.empty(pairs, dtype=bool)
    members[order] = taken[group]
    return Share(dataset, ~members), Share(dataset, members)


def fingerprints(dataset: FairseqDataset) -> np.ndarray:
    """(len(dataset),), 64 bits for each pair: equal if the pairs are, and as good as never else."""
    if getattr(dataset, "supports_prefetch", False):  # --dataset-impl cached: not read otherwise
        dataset.prefetch(range(len(dataset)))

    def fingerprint(pair: Dict[str, Tensor]) -> int:
        source, target = (pair[side].numpy().tobytes() for side in ("source", "target"))
        content = len(source).to_bytes(8, "little") + source + target
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")

    pairs = (fingerprint(dataset[index]) for index in range(len(dataset)))
    return np.fromiter(pairs, dtype=np.uint64, count=len(dataset))


def choose_groups(sizes: np.ndarray, pairs: int) -> np.ndarray:
    """Choose groups, the first ones if they fit, that hold about `pairs` pairs together.

    Never none and never all, if there are several groups. Otherwise the number of pairs is missed
    by at most half of the smallest group that is left.

    Args:
        sizes: (groups,), pairs in each
        pairs: from 1 to all but 1

    Returns:
        (groups,), True for those that are chosen
    """
    taken = np.cumsum(sizes) <= pairs
    free = pairs - sizes[taken].sum()
    for group in np.flatnonzero(~taken & (sizes <= free)):
        if sizes[group] <= free:
            taken[group], free = True, free - sizes[group]
        if not free:
            break
    rest = np.flatnonzero(~taken)
    smallest = rest[np.argmin(sizes[rest])]
    nearer = sizes[smallest] - free < free
    if (nearer and len(rest) > 1) or not taken.any():
        taken[smallest] = True
    return taken


class AlphaBatches:
    """Endless batches of alpha's share, from a position that checkpoints keep.

    A search that resumes with batches of another size goes on after as many pairs.

    Args:
        build: builds the iterator over alpha's share
        position: (3,), epoch from 1, batches that each process has taken from it, and pairs in
            those of the first process (negative if unknown); kept up to date in place
    """

    def __init__(self, build: Callable[[], EpochBatchIterator], position: Tensor):
        self._build = build
        self._position = position
        self._epochs: Optional[EpochBatchIterator] = None
        self._batches: Optional[Iterator[Dict[str, Any]]] = None
        #: Of the present epoch, as `_pairs_after` gives them.
        self._pairs = np.zeros(1, dtype=int)

    def take(self, count: int) -> List[Dict[str, Any]]:
        """The next `count` batches; a batch is empty if another process has one more."""
        # A new data loader draws from torch's generator: resuming would not be exact.
        with torch.random.fork_rng(devices=[]):
            return [self._next() for _ in range(count)]

    def _next(self) -> Dict[str, Any]:
        if self._epochs is None:
            self._epochs = self._build()
            self._go_to(*self._position.tolist())
        if self._batches is None or not self._batches.has_next():
            self._batches = self._epochs.next_epoch_itr(shuffle=True)
            self._pairs = self._pairs_after(self._epochs.epoch)
        batch = next(self._batches)
        if self._batches.has_next():
            taken = self._epochs.iterations_in_epoch
            place = [self._epochs.epoch, taken, self._pairs[taken]]
        else:
            place = [self._epochs.epoch + 1, 0, 0]
        self._position.copy_(torch.tensor(place))
        return batch

    def _go_to(self, epoch: int, batches: int, pairs: int) -> None:
        """Let the next epoch begin after so many pairs: if the batches are the same, batches."""
        pairs_after = self._pairs_after(epoch)
        if pairs >= 0:
            batches = int(np.searchsorted(pairs_after, pairs))
        if batches >= len(pairs_after) - 1:
            epoch, batches = epoch + 1, 0
        self._epochs.load_state_dict(
            {"version": 2, "epoch": epoch, "iterations_in_epoch": batches, "shuffle": True}
        )

    def _pairs_after(self, epoch: int) -> np.ndarray:
        """(batches + 1,), pairs in the first process's first 0, 1, 2 ... batches of `epoch`."""
        first = copy.copy(self._epochs)
        first.shard_id = 0
        batches = first.ordered_batches(epoch, fix_batches_to_gpus=False, shuffle=True)
        return np.cumsum([0, *map(len, batches)])
