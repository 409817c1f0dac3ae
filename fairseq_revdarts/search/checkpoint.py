"""A search's checkpoint: reading it, and when fairseq writes it."""

import math
import zipfile
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from fairseq.data.iterators import EpochBatchIterator
from torch import Tensor

from ..derivation import Table, derive_genotype, non_finite_nodes
from ..modules.mixture import Subsets, indices_of
from ..search_space import CANDIDATES, chosen_candidates
from ..utils.reading import reading


def load_checkpoint(path: str) -> Any:
    """The content of a checkpoint, on the CPU.

    Raises:
        ValueError: there is no such file, or it is damaged
    """
    with reading(path):
        # Mapped, not read: a supernet's weights are many, and only alpha is wanted.
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )


@dataclass(frozen=True)
class SavedSearch:
    """What a search's checkpoint says of its choices.

    Args:
        pooling: "max" or "avg"
        alphas: by side, minus infinity for eliminated candidates
        last_choices: by side, the probabilities of each node's last two candidates, 0 for nodes
            that still choose
        candidates: by side, the operations that are searched
        strategy: --search-strategy, empty if the checkpoint does not say
        updates: of theta, 0 if the checkpoint does not say
    """

    pooling: str
    alphas: Dict[str, Table]
    last_choices: Dict[str, Table]
    candidates: Dict[str, Tuple[str, ...]]
    strategy: str
    updates: int

    def shapes(self) -> List[Tuple[int, ...]]:
        """(s, searched splits, candidates) of each side."""
        return [np.shape(self.alphas[side]) for side in CANDIDATES]

    def living(self) -> Dict[str, Subsets]:
        """The candidates that have not been eliminated."""
        return {
            side: indices_of(torch.tensor(self.alphas[side]) > -math.inf) for side in CANDIDATES
        }


def search_of(checkpoint: Any, path: str) -> SavedSearch:
    """The search in the content of the checkpoint at `path`.

    Raises:
        ValueError: it is not a search's, or of other candidate operations, or damaged
    """
    try:
        weights, flags = checkpoint["model"], checkpoint["cfg"]["model"]
        alphas = {side: weights[f"architecture.{side}"].detach() for side in CANDIDATES}
        pooling = str(flags["pooling"])
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a search's checkpoint, it has no architecture parameters; give one that "
            "--task bilevel_search wrote"
        ) from error
    try:
        candidates = _candidates(alphas, flags)
    except ValueError as error:
        folder = (checkpoint["cfg"].get("common") or {}).get("user_dir")
        raise ValueError(
            f"{path}: {error}; the candidate operations must be those of the search, which had "
            f"{f'--user-dir {folder}' if folder else 'no --user-dir'}"
        ) from error
    try:
        broken = non_finite_nodes({side: alpha.tolist() for side, alpha in alphas.items()})
        tables, last_choices = {}, {}
        for side, alpha in alphas.items():
            living = weights.get(f"architecture.{side}_living", torch.tensor(True))
            tables[side] = alpha.masked_fill(~living, -math.inf).tolist()
            none = torch.zeros_like(alpha)
            last_choices[side] = weights.get(f"architecture.{side}_last_choice", none).tolist()
        strategy = str((checkpoint["cfg"].get("task") or {}).get("search_strategy", ""))
        history = checkpoint.get("optimizer_history") or [{}]
        updates = int(history[-1].get("num_updates", 0))
        search = SavedSearch(pooling, tables, last_choices, candidates, strategy, updates)
        derive_genotype(tables, pooling)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: its search cannot be read: {error}") from error
    if broken:
        raise ValueError(
            f"{path}: its architecture parameters are not finite at {', '.join(broken)}; use an "
            "earlier one"
        )
    return search


def _candidates(alphas: Dict[str, Tensor], flags: Any) -> Dict[str, Tuple[str, ...]]:
    """By side, the operations that were searched; a ValueError if some are not known here."""
    for side, alpha in alphas.items():
        known = len(CANDIDATES[side])
        if alpha.shape[-1:] != (known,):
            raise ValueError(
                f"{side}: its architecture parameters are of {alpha.shape[-1:].numel()} "
                f"candidates, {known} are known"
            )
    return {side: chosen_candidates(side, flags.get(f"{side}_candidates")) for side in CANDIDATES}


def saves_after(update: int, flags: Any, batches: EpochBatchIterator) -> bool:
    """Whether fairseq saves a checkpoint after an update, by the rules of `fairseq_cli.train`.

    All processes give the same answer, while of the task's state only the first one is asked. What
    cannot be told beforehand is left out: --stop-time-hours, --patience.

    Args:
        update: its number, from 1
        flags: fairseq's, all of them
        batches: those of the present epoch, up to the update
    """
    interval = flags.checkpoint.save_interval_updates
    return (
        (batches.end_of_epoch() and batches.epoch % flags.checkpoint.save_interval == 0)
        or update >= (flags.optimization.max_update or math.inf)
        or (
            interval > 0
            and update % interval == 0
            and update >= flags.dataset.validate_after_updates
        )
    )
