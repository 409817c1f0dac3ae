"""From where a search goes on, and the checks before it does: all that fairseq does not know of."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional, Tuple

from fairseq import checkpoint_utils

from ..modules.architecture import Architecture
from ..utils.flags import Flags, flag_name
from .checkpoint import SavedSearch, load_checkpoint, search_of
from .config import BilevelSearchConfig
from .strategies import strategy_of

logger = logging.getLogger(__name__)

#: Flags by which the pairs are divided.
DIVISION: Flags = {
    "task": (
        *("seed", "alpha_split", "distributed_world_size"),
        *("train_subset", "upsample_primary", "truncate_source"),
    )
}
#: Flags by which the pairs of a share come into batches. A place in an epoch is a count of batches.
BATCHES: Flags = {
    "dataset": ("max_tokens", "batch_size", "required_batch_size_multiple", "grouped_shuffling"),
    "task": ("max_source_positions", "max_target_positions", "num_batch_buckets"),
}
#: What every node computes; its weights would fit without these.
NODES: Flags = {"model": ("node_input", "operation_norm", "attention_heads")}
#: What was always so before there was a flag for it.
OLDER: Dict[str, str] = {"operation_norm": "post"}
#: What alpha means, and which candidates live.
STRATEGY: Flags = {"task": ("search_strategy",)}


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
            of the optimizer, of another strategy, its data were divided in another way, or it is
            from the middle of an epoch with other batches
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
            "from it; pass --reset-optimizer to begin a new one with its weights"
        )
    for side, names in architecture.candidates.items():
        if search.candidates[side] != names:
            raise ValueError(
                f"--{side}-candidates {','.join(names)}: the search in {path} has "
                f"{','.join(search.candidates[side])}; they must be the same to go on with it"
            )
    ours, theirs = cfg._get_parent(), checkpoint["cfg"]
    for flag, saved in _differences(ours, theirs, NODES):
        raise ValueError(
            f"{flag}: the search in {path} has {saved}, for which its weights were trained; it "
            "must be the same to go on with it"
        )
    if not restart.resets_optimizer:
        _check_schedule(ours, theirs, path)
    if not restart.resets_data:
        within = checkpoint["extra_state"]["train_iterator"]["iterations_in_epoch"] > 0
        _check_data(ours, theirs, path, within)
    return search


def has_ended(cfg: BilevelSearchConfig, saved: Optional[SavedSearch]) -> bool:
    """Whether the search that is restored has had all of its updates."""
    ended = saved is not None and 0 < cfg.max_update <= saved.updates
    if ended:
        logger.info(
            f"the search has had {saved.updates} updates, --max-update is {cfg.max_update}: it is "
            "at its end"
        )
    return ended


def is_decided(
    cfg: BilevelSearchConfig, saved: Optional[SavedSearch], architecture: Architecture
) -> bool:
    """Whether the alpha that is restored would decide a new search before it begins."""
    lost = bool(architecture.eliminated())
    other = saved is not None and saved.strategy not in ("", str(cfg.search_strategy))
    if lost or other:
        again = ", and the eliminated candidates live again" if lost else ""
        logger.warning(f"a new search begins: alpha is uniform{again}")
    return lost or other


def _check_schedule(ours: Any, theirs: Any, path: str) -> None:
    """Refuse another strategy; warn if the same one now has another schedule."""
    for flag, saved in _differences(ours, theirs, STRATEGY):
        raise ValueError(
            f"{flag}: the search in {path} has {saved}, and another strategy cannot go on with its "
            "alpha; keep it, or pass --reset-optimizer, which starts a new search with its weights"
        )
    schedule = strategy_of(ours["task"]).schedule
    for flag, saved in _differences(ours, theirs, schedule):
        logger.warning(
            f"{flag}: the search in {path} has {saved}; its schedule follows from it, and goes on "
            "as if it had always been as now"
        )


def _check_data(ours: Any, theirs: Any, path: str, within_epoch: bool) -> None:
    """Refuse another division of the pairs and, `within_epoch`, other batches."""
    # With another division, pairs that trained theta would train alpha as well.
    for flag, saved in _differences(ours, theirs, DIVISION):
        raise ValueError(
            f"{flag}: the search in {path} has {saved}, by which its data are divided; keep it, or "
            "pass --reset-dataloader"
        )
    for flag, saved in _differences(ours, theirs, BATCHES if within_epoch else {}):
        raise ValueError(
            f"{flag}: the search in {path} has {saved}, and stands within an epoch, counted in "
            "batches; keep it until the epoch's end, or pass --reset-dataloader"
        )


def _differences(ours: Any, theirs: Any, flags: Flags) -> Iterator[Tuple[str, Any]]:
    """The flags that differ, as "--flag value", with their values in the checkpoint.

    One that an older checkpoint does not have does not differ, except from those in OLDER.
    """
    for section, names in flags.items():
        for name in names:
            mine = ours[section].get(name)
            saved = theirs[section].get(name, OLDER.get(name, mine))
            if mine != saved:
                yield f"{flag_name(name)} {mine}", saved
