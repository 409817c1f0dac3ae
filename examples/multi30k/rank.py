"""Where networks stand among the random genotypes of benchmark.csv, and how a search ranks these.

    python rank.py --loss 3.12 3.15 --k 3
    python rank.py --search FOLDER [--search FOLDER]

The first form takes validation losses of networks that were trained like those of the table. It
prints their percentiles, and the loss to expect of the best of k random genotypes. The second form
prints Kendall's tau between the losses of the table and the beliefs of a search, in the whole table
and in its best third. A belief is the sum over the nodes of log p of a genotype's operations.
"""

import argparse
import math
import statistics
from pathlib import Path
from typing import Dict, List, Sequence

import torch
from benchmark import read_table

from fairseq_revdarts.derivation import rows_by_node, softmax
from fairseq_revdarts.genotype import Genotype, operations_by_node
from fairseq_revdarts.search_space import CANDIDATES


def losses_by_genotype(table: Path) -> Dict[str, float]:
    """The validation loss of each genotype, the mean over its seeds."""
    losses: Dict[str, List[float]] = {}
    for row in read_table(table):
        losses.setdefault(row["genotype"], []).append(float(row["loss"]))
    return {genotype: statistics.mean(of_seeds) for genotype, of_seeds in losses.items()}


def percentile(loss: float, losses: Sequence[float]) -> float:
    """The share of `losses`, in %, that are larger than `loss`; equal ones count half."""
    larger = sum((other > loss) + (other == loss) / 2 for other in losses)
    return 100 * larger / len(losses)


def best_of(k: int, losses: Sequence[float]) -> float:
    """The expected smallest loss of `k` genotypes drawn from the table, with replacement."""
    n = len(losses)
    shares = [((n - i) / n) ** k - ((n - i - 1) / n) ** k for i in range(n)]
    return sum(share * loss for share, loss in zip(shares, sorted(losses)))


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings of the same things, from -1 to 1; NaN if one is constant."""

    def sign(number: float) -> int:
        return (number > 0) - (number < 0)

    pairs = [(i, j) for i in range(len(one)) for j in range(i)]
    signs = [(sign(one[i] - one[j]), sign(other[i] - other[j])) for i, j in pairs]
    scale = math.sqrt(sum(a * a for a, _ in signs) * sum(b * b for _, b in signs))
    return sum(a * b for a, b in signs) / scale if scale else math.nan


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


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path(__file__).parent / "benchmark.csv")
    parser.add_argument("--loss", type=float, nargs="+", default=[], help="validation losses")
    parser.add_argument("--k", type=int, default=2, help="random genotypes of the same cost")
    parser.add_argument("--search", type=Path, action="append", default=[], help="its folder")
    args = parser.parse_args()
    if not args.table.exists():
        parser.error(f"--table {args.table}: no such file; benchmark.sh makes it")
    table = losses_by_genotype(args.table)
    losses = list(table.values())
    print(
        f"{len(losses)} random genotypes: mean loss {statistics.mean(losses):.3f}, "
        f"best {min(losses):.3f}, best of {args.k} {best_of(args.k, losses):.3f}"
    )
    for loss in args.loss:
        print(f"loss {loss:.3f}: better than {percentile(loss, losses):.0f} % of them")
    third = sorted(table, key=table.get)[: max(2, len(table) // 3)]
    for folder in args.search:
        checkpoint = folder / "checkpoint_last.pt"
        taus = [
            kendall_tau(beliefs(checkpoint, names), [-table[name] for name in names])
            for names in (list(table), third)
        ]
        print(f"{folder}: Kendall's tau {taus[0]:.2f}, in the best third {taus[1]:.2f}")


if __name__ == "__main__":
    main()
