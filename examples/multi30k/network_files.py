"""CSV files of networks, one row each: what proof.sh, three_pairs.sh and benchmark.sh write.

`--add` of table.py and pairs.py reads them, so that trainings on several machines make one table.
"""

import argparse
import csv
import re
import statistics
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple

#: Of benchmark.csv, and of the other files.
RANDOM_COLUMNS = ("genotype", "seed", "parameters", "loss", "bleu", "seconds")
COLUMNS = ("kind", "rate", *RANDOM_COLUMNS)
#: How to read what is not text in them.
TYPES = {"seed": int, "parameters": int, "seconds": int}
TYPES.update(dict.fromkeys(("rate", "loss", "bleu", "chrf"), float))
#: What tells two trainings apart.
IDENTITY = ("pair", "kind", "rate", "genotype", "seed")


def read_networks(path: Path) -> List[Dict[str, Any]]:
    """The networks of a file. Those of benchmark.csv are random; its head has their rate."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = "".join(line for line in lines if line.startswith("#"))
    rate = re.search(r" lr ([\d.e-]+),", head)
    common = {"kind": "random", "rate": float(rate[1])} if rate else {}
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return [
        {**common, **{name: TYPES.get(name, str)(text) for name, text in row.items()}}
        for row in rows
    ]


def accept_files(parser: argparse.ArgumentParser, pairs: bool = False) -> None:
    """Give a script the flag --add: the networks of each file, for `with_added`.

    Args:
        parser: of the script
        pairs: whether its networks are of several pairs of languages, and the files say of which
    """

    def networks(text: str) -> List[Dict[str, Any]]:
        if not Path(text).is_file():
            raise argparse.ArgumentTypeError(f"{text}: no such file")
        rows = read_networks(Path(text))
        missing = [name for name in COLUMNS if any(name not in row for row in rows)]
        if missing:
            raise argparse.ArgumentTypeError(f"{text}: no column {missing[0]} there")
        if any(("pair" in row) != pairs for row in rows):
            what, reader = ("no", "table.py") if pairs else ("a", "pairs.py")
            raise argparse.ArgumentTypeError(
                f"{text}: its rows name {what} pair of languages; {reader} reads such files"
            )
        return rows

    parser.add_argument(
        "--add", nargs="+", default=[], type=networks, metavar="CSV", help="networks of such files"
    )


def with_added(
    networks: List[Dict[str, Any]], files: Iterable[List[Dict[str, Any]]]
) -> List[Dict[str, Any]]:
    """`networks`, and those of --add that are not among them, by kind, rate and seed."""
    known: Dict[Tuple[Any, ...], Dict[str, Any]] = {}
    for each in chain(networks, *files):
        known.setdefault(tuple(each.get(name) for name in IDENTITY), each)
    return sorted(known.values(), key=lambda each: (each["kind"], each["rate"], each["seed"]))


def grouped(networks: Iterable[Dict[str, Any]], *names: str) -> Dict[Any, List[Dict[str, Any]]]:
    """The networks by what they have under `names`: under one by its value, else by a tuple."""
    groups: Dict[Any, List[Dict[str, Any]]] = {}
    for each in networks:
        groups.setdefault(itemgetter(*names)(each), []).append(each)
    return groups


def by_genotype(rows: Sequence[Dict[str, Any]], measure: str) -> Dict[str, List[float]]:
    """A measure of each genotype, such as its losses: one for each seed of its training."""
    genotypes = grouped(rows, "genotype")
    return {name: [row[measure] for row in members] for name, members in genotypes.items()}


def each_of(networks: Sequence[Dict[str, Any]], name: str) -> List[float]:
    """A number of each genotype, the mean over its seeds; if there is only one, of each seed."""
    seeds = list(by_genotype(networks, name).values())
    return seeds[0] if len(seeds) == 1 else [statistics.mean(numbers) for numbers in seeds]


def write_networks(path: Path, networks: List[Dict[str, Any]], columns: Sequence[str]) -> None:
    """A file with a row for each network, which `revdarts-plot` draws."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(networks)
