"""A search that is killed, ended or out of disk loses nothing but its last updates."""

import signal
import sys
import time

import pytest
from processes import start
from running import CHECKOUT, SEARCH, run

SMALL = [*SEARCH, "--train-subset=valid", "--batch-size=4", "--no-epoch-checkpoints"]


def test_killed_at_random_moments(data, tmp_path):
    output = run(sys.executable, CHECKOUT / "tests/interrupt.py", data, tmp_path)
    assert "bit for bit" in output


def test_sigterm_ends_the_search_with_a_message(data, tmp_path):
    folder, output = tmp_path / "search", tmp_path / "output.txt"
    flags = [f"--save-dir={folder}", *SMALL, "--save-interval-updates=1"]
    process = start(data, *flags, output=output)
    while process.is_alive() and not (folder / "checkpoint_last.pt").exists():
        time.sleep(0.01)
    process.terminate()
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    assert "SIGTERM: the search ends here" in output.read_text()
    assert not list(folder.glob("*.tmp"))
    run("revdarts-derive", folder / "checkpoint_last.pt", "-o", tmp_path / "genotype.json")


@pytest.mark.parametrize("interval", [0, 1])
def test_a_full_disk_is_named_and_leaves_the_last_checkpoint(data, tmp_path, interval):
    """Whether the checkpoint has one name or is copied to another."""
    folder, output = tmp_path / "search", tmp_path / "output.txt"
    flags = [f"--save-dir={folder}", *SMALL, f"--save-interval-updates={interval}"]
    start(data, *flags, "--max-update=1", output=output).join()
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    assert "checkpoint_last.pt" in before
    process = start(data, *flags, "--max-update=2", output=output, file_size=200_000)
    process.join()
    assert process.exitcode == 1
    message = output.read_text().strip().splitlines()[-1]
    assert message.startswith(f"OSError: {folder}/checkpoint_")
    assert message.endswith(".pt cannot be written: File too large")
    assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == before
    assert not list(folder.glob("*.tmp"))
