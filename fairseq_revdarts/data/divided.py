"""The division of the training pairs between theta and alpha."""

import hashlib
from typing import Any, Dict, List, Tuple

import numpy as np
from fairseq.data import BaseWrapperDataset, FairseqDataset, data_utils
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

    def collater(self, samples: List[Dict[str, Any]]) -> Dict[str, Any]:
        """The whole's batch; the networks are told of its padding, which a GPU had to be asked."""
        batch = self.dataset.collater(samples)
        if batch:
            inputs, padding = batch["net_input"], self.dataset.src_dict.pad()
            inputs["source_padded"] = bool(inputs["src_tokens"].eq(padding).any())
            first = inputs["prev_output_tokens"][:, 0]
            inputs["target_padded_left"] = bool(first.eq(self.dataset.tgt_dict.pad()).any())
        return batch


def divide(dataset: FairseqDataset, alpha_split: float, seed: int) -> Tuple[Share, Share]:
    """Divide training pairs at random into theta's share and alpha's.

    All repeats of a pair come into the same share. The division depends on nothing but `seed` and
    the pairs; if there are no repeats, on nothing but their number. Every pair is read once, which
    takes about 15 us, and about 50 bytes of memory temporarily.

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
    """(len(dataset),), 64 bits per pair: equal if the pairs are, practically never otherwise."""
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
