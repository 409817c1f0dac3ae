"""Errors of a checkpoint that cannot be read name its file; those of torch and fairseq do not."""

import pickle
from contextlib import contextmanager
from typing import Any, Iterator

from fairseq import checkpoint_utils

_load_in_fairseq = checkpoint_utils.load_checkpoint_to_cpu


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Let errors name the checkpoint at `path`.

    Raises:
        ValueError: there is no such file, or it is damaged
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; a checkpoint is needed") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: not a readable checkpoint, or cut short (not weights and plain data alone)"
        ) from error
    except Exception as error:  # damage makes torch.load raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: not a readable checkpoint, or cut short ({reason})") from error


def name_damaged_checkpoints() -> None:
    """Let fairseq's commands name a checkpoint that they cannot read."""
    checkpoint_utils.load_checkpoint_to_cpu = _load


def _load(path: str, *args: Any, **kwargs: Any) -> Any:
    """As fairseq's load_checkpoint_to_cpu. Raises a ValueError that names the file."""
    with reading(path):
        return _load_in_fairseq(path, *args, **kwargs)
