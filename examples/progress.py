"""Keep what a command prints in a log, and show how far its training has come.

    COMMAND 2>&1 | python examples/progress.py TITLE LOG

A terminal gets one line, "TITLE: update 120 of 1000, loss 5.12, 2 min left", drawn anew with each
of fairseq's lines about an update. A file or a pipe gets such a line at most once a minute, and at
most a hundred of them. In the end the cursor stands behind "TITLE ...", so that whoever started the
command can add how long it took.
"""

import argparse
import re
import shutil
import signal
import sys
import time
from typing import Callable, Optional, TextIO

#: In the configuration that fairseq logs first: the updates of the whole training, 0 for no limit.
TOTAL = re.compile(r"'max_update': (\d+)")
#: fairseq's line about an update, with --log-format simple or json.
UPDATE = re.compile(r'\| train_inner \|.*\bnum_updates[=:" ]+(\d+)')
LOSS = re.compile(r'\bloss[=:" ]+([\d.]+)')
#: Seconds between two lines of a log file.
INTERVAL = 60


def in_words(seconds: float) -> str:
    """A rough duration: 40 s, 2 min, 3 h."""
    for name, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


class Progress:
    """Reads a command's output line by line and writes to the screen.

    Args:
        title: of the command
        screen: a terminal, a file or a pipe
        own_line: end the line with the title at once
        clock: seconds since some moment
    """

    def __init__(
        self,
        title: str,
        screen: TextIO,
        own_line: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._title, self._screen, self._clock = title, screen, clock
        self._in_place = screen.isatty()
        self._total = 0
        self._first: Optional[int] = None
        self._begin = 0.0
        self._shown, self._shown_at = 0, clock()
        self._at_title = not own_line
        self._write(f"{title} ..." + ("\n" if own_line else ""))

    def read(self, line: str) -> None:
        """Take in a line of the command's output; show the progress if it is about an update."""
        total = TOTAL.search(line)
        if total:
            self._total = int(total[1])
        found = UPDATE.search(line)
        if found:
            loss = LOSS.search(line)
            self._show(int(found[1]), loss[1] if loss else "")

    def close(self) -> None:
        """Leave the cursor behind the title."""
        if self._in_place:
            self._redraw(f"{self._title} ...")
        elif not self._at_title:
            self._write(f"{self._title} ...")

    def _show(self, update: int, loss: str) -> None:
        now = self._clock()
        if self._first is None:
            self._first, self._begin = update, now
        text = f"{self._title}: {self._message(update, loss, now)}"
        if self._in_place:
            self._redraw(text)
        elif now - self._shown_at >= INTERVAL and update - self._shown >= self._total / 100:
            self._shown, self._shown_at = update, now
            self._write(f"\n{text}\n" if self._at_title else f"{text}\n")
            self._at_title = False

    def _message(self, update: int, loss: str, now: float) -> str:
        parts = [f"update {update} of {self._total}" if self._total else f"update {update}"]
        if loss:
            parts.append(f"loss {loss}")
        done, left = update - self._first, self._total - update
        if done > 0 and left > 0:
            parts.append(f"{in_words(left * (now - self._begin) / done)} left")
        return ", ".join(parts)

    def _redraw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        self._write(f"\r\033[K{text[: width - 1]}")

    def _write(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("title")
    parser.add_argument("log", help="file to which all lines are appended")
    parser.add_argument("--own-line", action="store_true", help="end the title's line at once")
    args = parser.parse_args()
    # Ctrl-C is for the command: what it then says still belongs in the log.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress = Progress(args.title, sys.stdout, args.own_line)
    with open(args.log, "ab", buffering=0) as log:
        for line in sys.stdin.buffer:
            log.write(line)
            progress.read(line.decode("utf-8", errors="replace"))
    progress.close()


if __name__ == "__main__":
    main()
