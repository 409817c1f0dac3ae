"""The division of the training pairs between theta and alpha, and alpha's batches."""

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

    The division depends on nothing but `seed` and the number of pairs.

    Args:
        dataset: all training pairs
        alpha_split: alpha's share of them, between 0 and 1
        seed: of the division

    Raises:
        ValueError: one of the shares is empty
    """
    pairs = len(dataset)
    for_alpha = round(alpha_split * pairs)
    if not 0 < for_alpha < pairs:
        raise ValueError(
            f"--alpha-split {alpha_split}: of {pairs} training pairs it leaves "
            f"{pairs - for_alpha} to theta and {for_alpha} to alpha; both need at least one"
        )
    members = np.zeros(pairs, dtype=bool)
    with data_utils.numpy_seed(seed):
        members[np.random.permutation(pairs)[:for_alpha]] = True
    return Share(dataset, ~members), Share(dataset, members)


class AlphaBatches:
    """Endless batches of alpha's share, from a position that checkpoints keep.

    Args:
        build: builds the iterator over alpha's share
        position: (2,), epoch from 1 and batches taken from it; kept up to date in place
    """

    def __init__(self, build: Callable[[], EpochBatchIterator], position: Tensor):
        self._build = build
        self._position = position
        self._epochs: Optional[EpochBatchIterator] = None
        self._batches: Optional[Iterator[Dict[str, Any]]] = None

    def take(self, count: int) -> List[Dict[str, Any]]:
        """The next `count` batches; a batch is empty if another process has one more."""
        # A new data loader draws from torch's generator: resuming would not be exact.
        with torch.random.fork_rng(devices=[]):
            return [self._next() for _ in range(count)]

    def _next(self) -> Dict[str, Any]:
        if self._epochs is None:
            epoch, offset = self._position.tolist()
            self._epochs = self._build()
            self._epochs.load_state_dict(
                {"version": 2, "epoch": epoch, "iterations_in_epoch": offset, "shuffle": True}
            )
        if self._batches is None or not self._batches.has_next():
            self._batches = self._epochs.next_epoch_itr(shuffle=True)
        batch = next(self._batches)
        if self._batches.has_next():
            place = [self._epochs.epoch, self._epochs.iterations_in_epoch]
        else:
            place = [self._epochs.epoch + 1, 0]
        self._position.copy_(torch.tensor(place))
        return batch
