"""Kills a search again and again, and sees whether it loses anything.

    python tests/interrupt.py DATA FOLDER [--kills 10] [--seed 1]

The search in FOLDER/interrupted is killed with SIGKILL at random moments, every other time while it
writes a file, and started again each time. All files that it leaves must be whole, and in the end
the same, bit for bit, as those of the search in FOLDER/straight, which nothing interrupts.
"""

import argparse
import json
import random
import signal
import time
from pathlib import Path

import torch
from processes import start
from running import SEARCH

import fairseq_revdarts  # noqa: F401  lets torch load what its checkpoints hold
from fairseq_revdarts.search.log import read_search_log

FLAGS = [
    *SEARCH,
    *("--encoder-layers=1", "--decoder-layers=1", "--cell-layers=1"),
    *("--train-subset=valid", "--batch-size=4"),
    *("--save-interval-updates=1", "--keep-interval-updates=2", "--no-epoch-checkpoints"),
]

#: Temporary names of the files that a search writes.
WRITTEN = ["checkpoint_[0-9]*.tmp", "checkpoint_last.pt.tmp", "genotype.json.tmp"]


def updates_in(folder):
    """Updates in the last checkpoint; every file but temporary ones must be whole."""
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    for path in folder.glob("search.jsonl"):
        read_search_log(str(path))
    updates = {
        path.name: torch.load(path, weights_only=True)["optimizer_history"][-1]["num_updates"]
        for path in folder.glob("*.pt")
    }
    return updates.get("checkpoint_last.pt", 0)


def state(folder):
    """What a search leaves behind, without its times."""
    checkpoint = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    weights = {k: v for k, v in checkpoint["model"].items() if not k.endswith("_float_tensor")}
    return {
        "model": weights,
        "optimizer": checkpoint["last_optimizer_state"],
        "updates": checkpoint["optimizer_history"][-1],
        "iterator": checkpoint["extra_state"]["train_iterator"],
        "genotype.json": (folder / "genotype.json").read_text(),
        "search.jsonl": (folder / "search.jsonl").read_text(),
    }


def same(one, other):
    """Whether nested containers hold the same, tensors bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else one == other


def kill(process, folder, moment, pattern=None):
    """Kill a search after `moment` seconds, or when it next writes; the files not yet whole."""
    process.join(moment)
    while pattern and process.is_alive() and not any(folder.glob(pattern)):
        time.sleep(0.0002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the search ended by itself"
    return [path.name for path in folder.glob("*.tmp")]


def search(data, folder, updates):
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.tmp"):
        path.unlink()  # so that a new one is seen
    flags = [f"--save-dir={folder}", f"--max-update={updates}", *FLAGS]
    return start(data, *flags, output=folder.with_suffix(".txt"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    straight, interrupted = args.folder / "straight", args.folder / "interrupted"
    moments = random.Random(args.seed)

    start("--help", output=args.folder / "help.txt").join()  # the first one waits for the imports
    begin = time.monotonic()
    kill(search(args.data, interrupted, 10**6), interrupted, 0, "checkpoint_last.pt")
    first_update = time.monotonic() - begin
    for number in range(2, args.kills + 1):
        pattern = WRITTEN[number // 2 % len(WRITTEN)] if number % 2 else None
        moment = moments.uniform(0.5 * first_update, 2 * first_update)
        cut_short = kill(search(args.data, interrupted, 10**6), interrupted, moment, pattern)
        print(f"kill {number}: {updates_in(interrupted)} updates saved; cut short: {cut_short}")

    updates = updates_in(interrupted) + 2
    for process in [search(args.data, folder, updates) for folder in (straight, interrupted)]:
        process.join()
    assert same(state(straight), state(interrupted)), "the interrupted search is another one"
    print(f"the same after {updates} updates, bit for bit")


if __name__ == "__main__":
    main()
