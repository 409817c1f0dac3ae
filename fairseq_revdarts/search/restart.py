"""From where a search goes on, and the checks before it does: all that fairseq does not know of."""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, Optional

from fairseq import checkpoint_utils

from ..modules.architecture import Architecture
from .checkpoint import SavedSearch, load_checkpoint, search_of
from .config import BilevelSearchConfig

#: Flags by which the pairs are divided, by their place in fairseq's configuration.
DIVISION = {
    "task": (
        *("seed", "alpha_split", "distributed_world_size"),
        *("train_subset", "upsample_primary", "truncate_source"),
    )
}
#: Flags by which the pairs of a share come into batches. A place in an epoch is a count of batches.
BATCHES = {
    "dataset": ("max_tokens", "batch_size", "required_batch_size_multiple", "grouped_shuffling"),
    "task": ("max_source_positions", "max_target_positions", "num_batch_buckets"),
}


@dataclass(frozen=True)
class Restart:
    """What fairseq's `load_checkpoint` is going to do.

    Args:
        path: the checkpoint that it loads, if there is such a file
        optional: whether the search begins from nothing if there is none
        resets_optimizer: whether it takes no more than weights and alpha from it
        resets_data: whether the data start at their first epoch
    """

    path: str
    optional: bool
    resets_optimizer: bool
    resets_data: bool

    @classmethod
    def of(cls, cfg: BilevelSearchConfig) -> "Restart":
        """Found by calling fairseq's own function. Raises its ValueErrors."""
        flags = cfg._get_parent().checkpoint
        asked = _Trainer(flags.checkpoint_suffix or "")
        with suppress(_AllAskedError):
            checkpoint_utils.load_checkpoint(flags, asked)
        last = os.path.join(flags.save_dir, f"checkpoint_last{asked.checkpoint_suffix}.pt")
        return cls(asked.path, asked.path == last, asked.resets_optimizer, asked.resets_data)


class _AllAskedError(Exception):
    """Ends fairseq's `load_checkpoint`, before it does anything."""


class _Trainer:
    """Stands in for fairseq's trainer, and notes what `load_checkpoint` asks of it."""

    def __init__(self, checkpoint_suffix: str):
        self.checkpoint_suffix = checkpoint_suffix

    def load_checkpoint(self, path: str, reset_optimizer: bool, *unused: Any, **more: Any) -> Any:
        self.path, self.resets_optimizer = path, reset_optimizer
        return {"train_iterator": {"epoch": None}}

    def get_train_iterator(self, epoch: Optional[int], **unused: Any) -> None:
        self.resets_data = epoch is not None
        raise _AllAskedError


def check_restored(
    cfg: BilevelSearchConfig, restart: Restart, architecture: Architecture
) -> Optional[SavedSearch]:
    """Look at the checkpoint that fairseq will restore; returns its search if there is one.

    Raises:
        ValueError: it is missing, damaged, no search's, of another search space, without the state
            of the optimizer, its data were divided in another way, or it is from the middle of an
            epoch with other batches
    """
    path = restart.path
    if restart.optional and not os.path.exists(path):
        return None
    checkpoint = load_checkpoint(path)
    search = search_of(checkpoint, path)
    shapes = [tuple(alpha.shape) for alpha in architecture.alphas()]
    if search.pooling != architecture.pooling or search.shapes() != shapes:
        raise ValueError(
            f"{path}: its search has another search space; --cell-layers, --encoder-splits, "
            "--decoder-splits and --pooling must be the same to go on with it"
        )
    if not restart.resets_optimizer and "last_optimizer_state" not in checkpoint:
        raise ValueError(
            f"{path}: it was written with --no-save-optimizer-state, so the search cannot go on "
            "from it; pass --reset-optimizer to begin a new one with its weights and its alpha"
        )
    for side, names in architecture.candidates.items():
        if search.candidates[side] != names:
            raise ValueError(
                f"--{side}-candidates {','.join(names)}: the search in {path} has "
                f"{','.join(search.candidates[side])}; they must be the same to go on with it"
            )
    if restart.resets_data:
        return search
    ours, theirs = cfg._get_parent(), checkpoint["cfg"]
    # With another division, pairs that trained theta would train alpha as well.
    _check_same(ours, theirs, DIVISION, path, "by which its data are divided; keep it")
    if checkpoint["extra_state"]["train_iterator"]["iterations_in_epoch"] > 0:
        reason = "and stands within an epoch, counted in batches; keep it until the epoch's end"
        _check_same(ours, theirs, BATCHES, path, reason)
    return search


def _check_same(ours: Any, theirs: Any, flags: Dict[str, Any], path: str, reason: str) -> None:
    for section, names in flags.items():
        for name in names:
            mine = ours[section].get(name)
            saved = theirs[section].get(name, mine)
            if mine != saved:
                raise ValueError(
                    f"--{name.replace('_', '-')} {mine}: the search in {path} has {saved}, "
                    f"{reason}, or pass --reset-dataloader"
                )
