"""progress.py: what a screen or a log shows of fairseq's output."""

import io
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
sys.path.append(str(EXAMPLES))
from progress import Progress, in_words  # noqa: E402

CONFIGURATION = (
    "2026-01-01 | INFO | fairseq_cli.train | {'optimization': {'max_update': 1000, 'lr': 1}}"
)


def simple(update, loss=5.12):
    numbers = f"alpha_loss=3, num_updates={update}, nll_loss=4.2, loss={loss}, wps=10"
    return f"2026-01-01 00:00:00 | INFO | train_inner | epoch 001: 2 / 9 {numbers}"


def as_json(update, loss=5.12):
    numbers = {"epoch": 1, "nll_loss": "4.2", "loss": str(loss), "num_updates": str(update)}
    return f"2026-01-01 00:00:00 | INFO | train_inner | {json.dumps(numbers)}"


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def shown(lines, terminal=False, seconds=61, **more):
    """What a screen has got after each line of fairseq, one per `seconds`, and in the end."""
    now = [0]
    screen = Screen(terminal)
    progress = Progress("[2/3] train", screen, clock=lambda: now[0], **more)
    states = [screen.getvalue()]
    for line in lines:
        now[0] += seconds
        progress.read(line + "\n")
        states.append(screen.getvalue())
    progress.close()
    return [*states, screen.getvalue()]


@pytest.mark.parametrize("form", [simple, as_json])
def test_a_terminal_shows_one_line_drawn_anew(form, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    *states, end = shown([CONFIGURATION, form(120), form(560)], terminal=True, seconds=60)
    assert states[0] == states[1] == "[2/3] train ..."
    drawn = end.split("\r\033[K")
    assert drawn[1] == "[2/3] train: update 120 of 1000, loss 5.12"
    assert drawn[2] == "[2/3] train: update 560 of 1000, loss 5.12, 60 s left"
    assert drawn[3] == "[2/3] train ..."
    assert "\n" not in end


def test_a_terminal_that_is_narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    end = shown([CONFIGURATION, simple(120)], terminal=True)[-1]
    assert all(len(line) < 20 for line in end.split("\r\033[K"))


def test_a_file_gets_whole_lines():
    end = shown([CONFIGURATION, simple(10), simple(20), simple(30)])[-1]
    assert end.split("\n") == [
        "[2/3] train ...",
        "[2/3] train: update 10 of 1000, loss 5.12",
        "[2/3] train: update 20 of 1000, loss 5.12, 100 min left",
        "[2/3] train: update 30 of 1000, loss 5.12, 99 min left",
        "[2/3] train ...",
    ]


@given(st.integers(1, 100_000), st.lists(st.integers(1, 100_000), max_size=300), st.integers(1, 90))
def test_a_file_gets_few_lines(total, updates, seconds):
    """At most one per minute, and one per cent of the updates, however often fairseq logs."""
    lines = [f"'max_update': {total}", *map(simple, sorted(u for u in updates if u <= total))]
    end = shown(lines, seconds=seconds)[-1]
    count = end.count(": update ")
    assert count <= min(100, len(lines) * seconds / 60)
    assert end.endswith("[2/3] train ...") and end.count("\n") == (count + 1 if count else 0)


def test_a_title_on_its_own_line():
    assert shown([], own_line=True)[-1] == "[2/3] train ...\n[2/3] train ..."


@pytest.mark.parametrize("line", ["", "valid | num_updates 7", "train_inner", "| train_inner | x"])
@pytest.mark.parametrize("terminal", [True, False])
def test_other_lines_show_nothing(line, terminal):
    states = shown([CONFIGURATION, line], terminal)
    assert states[0] == states[-2]


def test_no_limit_of_updates():
    assert shown(["'max_update': 0", simple(7)])[-2].endswith("train: update 7, loss 5.12\n")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h")]
)
def test_rough_durations(seconds, words):
    assert in_words(seconds) == words


def test_all_bytes_are_logged_at_once(tmp_path):
    """Bytes that are no text too, and each line before the next one comes."""
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    command = [sys.executable, EXAMPLES / "progress.py", "title", log]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(len("title ...")) == b"title ..."
        for line in (b"\xff\xfe\r\n", b"second\n"):
            process.stdin.write(line)
            process.stdin.flush()
            while not log.read_bytes().endswith(line):
                assert process.poll() is None
        process.stdin.write(b"no end")
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0
    assert log.read_bytes() == b"before\n\xff\xfe\r\nsecond\nno end"
