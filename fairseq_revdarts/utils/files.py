"""Files that an interruption leaves whole: the old one, or the new one."""

import os
from contextlib import contextmanager, suppress
from typing import Iterator


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let errors name the file that could not be written; a full disk's own do not."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """The name of a file to write, which replaces the one at `path` once it is whole.

    The name is always the same, so that files that a kill leaves behind do not pile up. What is
    no file, such as /dev/stdout, is written as it is: a device cannot be replaced.

    Raises:
        OSError: it cannot be written; names `path`, whose old file stays
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with naming(path):
            yield path
        return
    temporary = f"{path}.tmp"
    try:
        with naming(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def write_atomically(path: str, text: str) -> None:
    """Replace the file at `path` by `text`; a reader sees the old content or the new."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
