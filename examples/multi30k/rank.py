"""Where networks stand among the random genotypes of benchmark.csv, and how a search ranks these.

    python rank.py --networks WORK/networks.csv
    python rank.py --search FOLDER [--search FOLDER]

The first form takes networks that were trained like those of the table: a file of proof.sh. For
each kind it prints the percentiles of their validation losses, and how probable it is that as many
random genotypes have so low a mean loss (a permutation test). The second form prints Kendall's tau
between the losses of the table and the beliefs of a search, in the whole table and in its best
third. A belief is the sum over the nodes of log p of a genotype's operations.
"""

import argparse
import csv
import math
import statistics
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
import torch
from benchmark import read_table
from scipy.stats import kendalltau, percentileofscore, permutation_test

from fairseq_revdarts.derivation import rows_by_node, softmax
from fairseq_revdarts.genotype import Genotype, operations_by_node
from fairseq_revdarts.search_space import CANDIDATES

TOP = 90  # the percentile that most networks of a good search are above


def losses_by_genotype(table: Path) -> Dict[str, float]:
    """The validation loss of each genotype, the mean over its seeds."""
    losses: Dict[str, List[float]] = {}
    for row in read_table(table):
        losses.setdefault(row["genotype"], []).append(float(row["loss"]))
    return {genotype: statistics.mean(of_seeds) for genotype, of_seeds in losses.items()}


def percentile(loss: float, losses: Sequence[float]) -> float:
    """The share of `losses`, in %, that are larger than `loss`; equal ones count half."""
    return 100 - percentileofscore(losses, loss, kind="mean")


def p_value(found: Sequence[float], losses: Sequence[float]) -> float:
    """How probable it is by chance that the mean of `found` lies so far below that of `losses`."""

    def difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(one, axis=axis) - np.mean(other, axis=axis)

    test = permutation_test(
        (found, losses), difference, alternative="less", n_resamples=99_999, random_state=1
    )
    return float(test.pvalue)


def best_of(k: int, losses: Sequence[float]) -> float:
    """The expected smallest loss of `k` genotypes drawn from the table, with replacement."""
    n = len(losses)
    shares = [((n - i) / n) ** k - ((n - i - 1) / n) ** k for i in range(n)]
    return sum(share * loss for share, loss in zip(shares, sorted(losses)))


def beliefs(checkpoint: Path, genotypes: Sequence[str]) -> List[float]:
    """For each genotype, given as JSON, the sum over the nodes of log p of its operations.

    Eliminated candidates keep the alpha that they had: p is taken over all candidates.
    """
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["model"]
    probabilities = {
        node: dict(zip(CANDIDATES[side], softmax(row)))
        for side in CANDIDATES
        for node, row in rows_by_node(side, weights[f"architecture.{side}"].tolist()).items()
    }
    chosen = [operations_by_node(Genotype.from_json(genotype)) for genotype in genotypes]
    return [
        sum(math.log(probabilities[node][name]) for node, name in nodes.items()) for nodes in chosen
    ]


def compare(networks: Path, losses: Sequence[float]) -> List[str]:
    """A line for each kind of network in a file of proof.sh."""
    with open(networks, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        found = [float(row["loss"]) for row in rows if row["kind"] == kind]
        places = [percentile(loss, losses) for loss in found]
        lines.append(
            f"{kind}: {len(found)} networks, mean loss {statistics.mean(found):.3f}, better than "
            f"{', '.join(f'{place:.0f}' for place in places)} % of the random genotypes "
            f"({sum(place >= TOP for place in places)} above {TOP} %)"
            + (f", p = {p_value(found, losses):.4f}" if len(found) > 1 else "")
        )
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path(__file__).parent / "benchmark.csv")
    parser.add_argument("--networks", type=Path, help="networks.csv of proof.sh")
    parser.add_argument("--k", type=int, default=2, help="random genotypes of the same cost")
    parser.add_argument("--search", type=Path, action="append", default=[], help="its folder")
    args = parser.parse_args()
    for path in filter(None, (args.table, args.networks)):
        if not path.exists():
            parser.error(f"{path}: no such file; benchmark.sh and proof.sh make them")
    table = losses_by_genotype(args.table)
    losses = list(table.values())
    print(
        f"{len(losses)} random genotypes: mean loss {statistics.mean(losses):.3f}, "
        f"best {min(losses):.3f}, best of {args.k} {best_of(args.k, losses):.3f}"
    )
    if args.networks:
        print("\n".join(compare(args.networks, losses)))
    third = sorted(table, key=table.get)[: max(2, len(table) // 3)]
    for folder in args.search:
        checkpoint = folder / "checkpoint_last.pt"
        taus = [
            kendalltau(beliefs(checkpoint, names), [-table[name] for name in names])[0]
            for names in (list(table), third)
        ]
        print(f"{folder}: Kendall's tau {taus[0]:.2f}, in the best third {taus[1]:.2f}")


if __name__ == "__main__":
    main()
