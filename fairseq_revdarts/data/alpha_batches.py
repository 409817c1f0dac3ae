"""alpha's batches: endless, from any position on."""

import copy
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import torch
from fairseq.data.iterators import EpochBatchIterator
from torch import Tensor


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
            place = [self._epochs.epoch, taken, int(self._pairs[taken])]
        else:
            place = [self._epochs.epoch + 1, 0, 0]
        for number, value in enumerate(place):
            self._position[number].fill_(value)  # unlike a copy, does not wait for a GPU
        return batch

    def _go_to(self, epoch: int, batches: int, pairs: int) -> None:
        """Place the next batch: by pairs if their number is known, otherwise by batches."""
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
