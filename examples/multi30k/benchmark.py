"""The table of random genotypes: those that are missing, and new lines. benchmark.sh calls this.

The table is a CSV file. Lines that begin with # state the regime, which is the same for all rows,
and the versions. The columns are genotype (as in a genotype file), seed (of the training),
parameters, loss (validation, in bits per token), bleu, and seconds (of the processor, for the
training).
"""

import argparse
import csv
import fcntl
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict, List

from network_files import RANDOM_COLUMNS, read_networks
from table import network

from fairseq_revdarts.models.revdarts_transformer.config import (
    RevDartsTransformerConfig,
    chosen_genotype,
)

PACKAGES = ("torch", "fairseq-fixed", "fairseq", "sentencepiece", "sacrebleu")


def read_table(path: Path, regime: str) -> List[Dict[str, Any]]:
    """The rows of a table; none if there is no file.

    Raises:
        SystemExit: its rows were trained in another regime than `regime`
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines and lines[0] != f"# {regime}":
        sys.exit(f"{path}: its regime is another one:\n{lines[0]}\n# {regime}\nname another TABLE")
    return read_networks(path)


def append_row(path: Path, row: Dict[str, object], regime: str) -> None:
    """Add a row, and before the first one the head; several processes may do so at once."""
    with open(path, "a+", encoding="utf-8", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)  # another process may have written meanwhile
        writer = csv.DictWriter(file, RANDOM_COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            file.write(f"# {regime}\n# {versions()}\n")
            writer.writeheader()
        writer.writerow(row)


def versions() -> str:
    """Python and the packages on which the figures depend."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def json_of(name: str, pooling: str) -> str:
    """The genotype that `name`, such as random:7, stands for."""
    return chosen_genotype(RevDartsTransformerConfig(genotype=name, pooling=pooling)).to_json()


def trained(work: Path, run: str) -> Dict[str, object]:
    """The row of a network that benchmark.sh has trained and scored."""
    known = network(work, run)
    return {**{name: known[name] for name in RANDOM_COLUMNS}, "bleu": f"{known['bleu']:.2f}"}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regime", required=True, help="how all rows are trained")
    parser.add_argument("--pooling", required=True, help="of all genotypes")
    actions = parser.add_subparsers(dest="action", required=True)
    missing = actions.add_parser(
        "missing", help="of the lines GENOTYPE SEED on stdin, those to train"
    )
    append = actions.add_parser("append", help="add the network in WORK/GENOTYPE-SEED")
    for action in (missing, append):
        action.add_argument("table", type=Path)
    append.add_argument("work", type=Path)
    append.add_argument("genotype")
    append.add_argument("seed", type=int)
    args = parser.parse_args()
    rows = read_table(args.table, args.regime)
    if args.action == "append":
        append_row(args.table, trained(args.work, f"{args.genotype}-{args.seed}"), args.regime)
        return
    present = {(row["genotype"], row["seed"]) for row in rows}
    for line in sys.stdin:
        genotype, seed = line.split()
        if (json_of(genotype, args.pooling), int(seed)) not in present:
            print(genotype, seed)


if __name__ == "__main__":
    main()
