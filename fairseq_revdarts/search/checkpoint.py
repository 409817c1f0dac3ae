"""Reading a search's checkpoint, and the checks before anything is done with it."""

import math
import os
import pickle
import zipfile
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch

from ..derivation import Table, derive_genotype, non_finite_nodes
from ..modules.architecture import Architecture
from ..search_space import CANDIDATES
from .config import BilevelSearchConfig


def load_checkpoint(path: str) -> Any:
    """The content of a checkpoint, on the CPU.

    Raises:
        ValueError: there is no such file, or it is damaged
    """
    try:
        # Mapped, not read: a supernet's weights are many, and only alpha is wanted.
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; a checkpoint is needed") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: not a readable checkpoint, or cut short (not weights and plain data alone)"
        ) from error
    except Exception as error:  # damage makes torch.load raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a readable checkpoint, or cut short ({reason})") from error


@dataclass(frozen=True)
class SavedSearch:
    """What a search's checkpoint says of its choices.

    Args:
        pooling: "max" or "avg"
        alphas: by side, minus infinity for eliminated candidates
        last_choices: by side, the probabilities of each node's last two candidates, 0 for nodes
            that still choose
    """

    pooling: str
    alphas: Dict[str, Table]
    last_choices: Dict[str, Table]

    def shapes(self) -> List[Tuple[int, ...]]:
        """(s, searched splits, candidates) of each side."""
        return [np.shape(self.alphas[side]) for side in CANDIDATES]


def load_search(path: str) -> SavedSearch:
    """The search in a checkpoint.

    Raises:
        ValueError: there is no such file, it is damaged, or it is not a search's
    """
    return search_of(load_checkpoint(path), path)


def search_of(checkpoint: Any, path: str) -> SavedSearch:
    """The search in the content of the checkpoint at `path`.

    Raises:
        ValueError: it is not a search's
    """
    try:
        weights = checkpoint["model"]
        alphas = {side: weights[f"architecture.{side}"] for side in CANDIDATES}
        broken = non_finite_nodes({side: alpha.tolist() for side, alpha in alphas.items()})
        last_choices = {}
        for side, alpha in alphas.items():
            living = weights.get(f"architecture.{side}_living", torch.tensor(True))
            alphas[side] = alpha.masked_fill(~living, -math.inf).tolist()
            none = torch.zeros_like(alpha)
            last_choices[side] = weights.get(f"architecture.{side}_last_choice", none).tolist()
        search = SavedSearch(str(checkpoint["cfg"]["model"]["pooling"]), alphas, last_choices)
        derive_genotype(alphas, search.pooling)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{path}: not a search's checkpoint, it has no architecture parameters; give one that "
            "--task bilevel_search wrote"
        ) from error
    if broken:
        raise ValueError(
            f"{path}: its architecture parameters are not finite at {', '.join(broken)}; use an "
            "earlier one"
        )
    return search


def check_restored(cfg: BilevelSearchConfig, architecture: Architecture) -> None:
    """Look at the checkpoint that fairseq will restore, if there is one.

    Raises:
        ValueError: it is missing, damaged, no search's, of another search space, or its data were
            divided in another way
    """
    path = _restored_path(cfg)
    if path is None:
        return
    checkpoint = load_checkpoint(path)
    search = search_of(checkpoint, path)
    shapes = [tuple(alpha.shape) for alpha in architecture.alphas()]
    if search.pooling != architecture.pooling or search.shapes() != shapes:
        raise ValueError(
            f"{path}: its search has another search space; --cell-layers, --encoder-splits, "
            "--decoder-splits and --pooling must be the same to go on with it"
        )

    if not (begins_anew(cfg) or cfg.reset_dataloader):
        _check_division(cfg, checkpoint["cfg"]["task"], path)


def begins_anew(cfg: BilevelSearchConfig) -> bool:
    """Whether the search takes no more than weights and alpha from a checkpoint."""
    last = os.path.join(cfg.save_dir, cfg.restore_file)
    return cfg.reset_optimizer or bool(cfg.finetune_from_model and not os.path.exists(last))


def _check_division(cfg: BilevelSearchConfig, theirs: Dict[str, Any], path: str) -> None:
    """With another division of the data, pairs that trained theta would train alpha as well."""
    for flag in ("seed", "alpha_split", "distributed_world_size"):
        if theirs.get(flag, getattr(cfg, flag)) != getattr(cfg, flag):
            name = "--" + flag.replace("_", "-")
            raise ValueError(
                f"{name} {getattr(cfg, flag)}: the search in {path} has {theirs[flag]}, by which "
                "its data are divided; keep it, or pass --reset-dataloader"
            )


def _restored_path(cfg: BilevelSearchConfig) -> Optional[str]:
    """The checkpoint that fairseq-train begins with, as its load_checkpoint finds it."""
    if cfg.restore_file != "checkpoint_last.pt":
        return cfg.restore_file
    path = os.path.join(cfg.save_dir, cfg.restore_file)
    return path if os.path.exists(path) else cfg.finetune_from_model
