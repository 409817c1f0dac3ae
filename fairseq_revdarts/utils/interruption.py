"""A kill or a full disk costs a search no more than the updates since its last checkpoint.

fairseq renames a checkpoint that is complete to its first name, such as checkpoint_3_500.pt, but
then copies it over the old checkpoint_last.pt: an interruption of the copy leaves neither. Errors
while it writes lead to two more tries, appended to what is already in the file, and name no file.
"""

import logging
import shutil
import signal
import threading
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from .files import replacing

logger = logging.getLogger(__name__)

_save_in_fairseq, _copy_in_fairseq = checkpoint_utils.torch_persistent_save, PathManager.copy


def prepare_for_interruption() -> None:
    """Let fairseq write each checkpoint next to the one that it replaces, and explain SIGTERM."""
    checkpoint_utils.torch_persistent_save = save
    PathManager.copy = staticmethod(_copy)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def save(obj: Any, filename: str, async_write: bool = False) -> None:
    """As fairseq's torch_persistent_save. Raises an OSError that names the file."""
    if async_write or not PathManager.supports_rename(filename):
        _save_in_fairseq(obj, filename, async_write)
        return
    with replacing(filename) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(obj, file)
        except RuntimeError as error:  # raised at the archive's end, after the error in it
            raise (error.__context__ or error) from None


def _copy(source: str, destination: str, overwrite: bool = False) -> bool:
    """As fairseq's PathManager.copy. Raises an OSError that names the destination."""
    if not PathManager.supports_rename(destination):
        return _copy_in_fairseq(source, destination, overwrite)
    with replacing(destination) as temporary:
        shutil.copyfile(source, temporary)
    return True


def _end(number: int, _frame: Any) -> None:
    logger.warning(
        "SIGTERM: the search ends here; if it has written a checkpoint, the last one is complete, "
        "and the same command goes on from there"
    )
    raise SystemExit(128 + number)
