"""Where networks stand among the random genotypes of benchmark.csv, and how a search ranks these.

    python rank.py --networks WORK/networks.csv
    python rank.py --search FOLDER [--search FOLDER]
    python rank.py --supernet CHECKPOINT
    python rank.py --operations

All forms first say how much the genotypes of the table differ, and how much two trainings of one.
The first form takes networks that were trained like those of the table: a file of proof.sh. For
each kind it prints the percentiles of their validation losses and of their BLEU, and how probable
it is that as many random genotypes are as good in the mean (permutation tests). The second form
prints Kendall's tau between the losses of the table and the beliefs of a search, in the whole table
and in its best third. A belief is the sum over the nodes of log p of a genotype's operations. A
last line says how far such a sum can get: tau of an additive fit to the losses of all other
genotypes. The third form prints tau of what the weights of a supernet say: the loss on the
validation set of each genotype as a path through it. The last form prints the mean loss of the
genotypes with and without each family of operations, in the nodes of the encoder and in those of
the decoder.
"""

import argparse
import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from fairseq import checkpoint_utils, utils
from network_files import by_genotype, read_networks
from scipy.stats import kendalltau, percentileofscore, permutation_test

import fairseq_revdarts
from fairseq_revdarts.derivation import rows_by_node, softmax
from fairseq_revdarts.genotype import Genotype, operations_by_node
from fairseq_revdarts.search.active import active_on
from fairseq_revdarts.search_space import CANDIDATES, family

RIDGE = 3.0  # of the additive fit; 1 and 10 hardly change it
TOP = 90  # the percentile that most networks of a good search are above
#: What is compared: its name, and the factor with which less is better.
MEASURES = {"loss": ("mean loss", 1), "bleu": ("mean BLEU", -1)}


def means_by_genotype(rows: Sequence[Dict[str, Any]], measure: str) -> Dict[str, float]:
    """A measure of each genotype, the mean over the seeds of its training."""
    return {name: statistics.mean(seeds) for name, seeds in by_genotype(rows, measure).items()}


def spread(rows: Sequence[Dict[str, Any]], measure: str) -> str:
    """The standard deviation between genotypes, and, as far as it is known, between seeds."""
    means = list(means_by_genotype(rows, measure).values())
    trainings = by_genotype(rows, measure).values()
    variances = [statistics.variance(seeds) for seeds in trainings if len(seeds) > 1]
    text = f"{MEASURES[measure][0]} {statistics.mean(means):.3f}"
    if len(means) > 1:
        text += f", standard deviation between genotypes {statistics.stdev(means):.3f}"
    if variances:
        between_seeds = math.sqrt(statistics.mean(variances))
        text += f", between seeds of one {between_seeds:.3f} ({len(variances)} genotypes)"
    return text


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


@torch.no_grad()
def path_losses(checkpoint: Path, genotypes: Sequence[str]) -> List[float]:
    """The loss on the validation set of each genotype, given as JSON, with a supernet's weights."""
    utils.import_user_module(argparse.Namespace(user_dir=fairseq_revdarts.__path__[0]))
    (supernet,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)])
    task.load_dataset("valid")
    criterion = task.build_criterion(cfg.criterion)
    iterator = task.get_batch_iterator(task.dataset("valid"), max_tokens=cfg.dataset.max_tokens)
    batches = list(iterator.next_epoch_itr(shuffle=False))
    losses = []
    for genotype in genotypes:
        path = active_on(Genotype.from_json(genotype))
        with supernet.eval().architecture.restricted_to(path):
            losses.append(sum(float(criterion(supernet, batch)[0]) for batch in batches))
    return losses


def tau(ranking: Sequence[float], losses: Sequence[float]) -> str:
    """Kendall's tau-b of a ranking, the best first, with `losses`: in all, in the best third."""
    third = sorted(range(len(losses)), key=losses.__getitem__)[: max(2, len(losses) // 3)]
    whole, best = (
        kendalltau([ranking[i] for i in places], [losses[i] for i in places])[0]
        for places in (range(len(losses)), third)
    )
    return f"Kendall's tau {whole:.2f}, in the best third {best:.2f}"


def compare(
    networks: Sequence[Dict[str, Any]], table: Sequence[Dict[str, Any]], measure: str
) -> List[str]:
    """A line for each kind of `networks`."""
    title, sign = MEASURES[measure]
    known = [sign * value for value in means_by_genotype(table, measure).values()]
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in networks):
        found = [sign * row[measure] for row in networks if row["kind"] == kind]
        places = [percentile(value, known) for value in found]
        shares = ", ".join(f"{place:.0f}" for place in places)
        lines.append(
            f"{kind}: {len(found)} networks, {title} {sign * statistics.mean(found):.3f}, "
            f"better than {shares} % of the random genotypes "
            f"({sum(place >= TOP for place in places)} above {TOP} %)"
            + (f", p = {p_value(found, known):.4f}" if len(found) > 1 else "")
        )
    return lines


def families_of(genotype: str) -> Dict[Tuple[str, str], int]:
    """For each side and family of operations, in how many nodes of a genotype it is."""
    nodes = operations_by_node(Genotype.from_json(genotype))
    return Counter((node.split(".")[0], family(name)) for node, name in nodes.items())


def additive_fit(table: Dict[str, float]) -> List[float]:
    """The loss of each genotype by a ridge regression on `families_of` for all other genotypes."""
    counted = [families_of(genotype) for genotype in table]
    places = sorted(set().union(*counted))
    numbers = np.array([[count[place] for place in places] for count in counted], dtype=float)
    losses, predicted = np.array(list(table.values())), []
    for i in range(len(losses)):
        others = np.arange(len(losses)) != i
        mean, center = losses[others].mean(), numbers[others].mean(axis=0)
        x = numbers[others] - center
        weights = np.linalg.solve(
            x.T @ x + RIDGE * np.eye(len(places)), x.T @ (losses[others] - mean)
        )
        predicted.append(float(mean + (numbers[i] - center) @ weights))
    return predicted


def with_and_without(table: Dict[str, float]) -> List[str]:
    """A row for each side and family of operations: mean losses with and without it."""
    lines = [
        "| | family | genotypes with it | mean loss | without | mean loss |",
        "|" + " --- |" * 6,
    ]
    families = {genotype: set(families_of(genotype)) for genotype in table}
    for place in sorted(set().union(*families.values())):
        groups = [
            [loss for genotype, loss in table.items() if (place in families[genotype]) == has]
            for has in (True, False)
        ]
        cells = [f"{len(losses)} | {statistics.mean(losses):.3f}" for losses in groups if losses]
        lines.append(f"| {' | '.join([*place, *cells])} |")
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path(__file__).parent / "benchmark.csv")
    parser.add_argument("--networks", type=Path, help="networks.csv of proof.sh")
    parser.add_argument("--k", type=int, default=3, help="random genotypes of the same cost")
    parser.add_argument("--search", type=Path, action="append", default=[], help="its folder")
    parser.add_argument("--supernet", type=Path, action="append", default=[], help="a checkpoint")
    parser.add_argument("--operations", action="store_true", help="with and without each family")
    args = parser.parse_args()
    for path in filter(None, (args.table, args.networks)):
        if not path.exists():
            parser.error(f"{path}: no such file; benchmark.sh and proof.sh make them")
    rows = read_networks(args.table)
    table = means_by_genotype(rows, "loss")
    losses = list(table.values())
    print(f"{len(losses)} random genotypes")
    for measure in MEASURES:
        print(spread(rows, measure))
    print(f"best loss {min(losses):.3f}, best of {args.k} {best_of(args.k, losses):.3f}")
    if args.networks:
        networks = read_networks(args.networks)
        for measure in MEASURES:
            print("\n".join(compare(networks, rows, measure)))
    if args.operations:
        print("\n".join(with_and_without(table)))
    believed = {
        folder: beliefs(folder / "checkpoint_last.pt", list(table)) for folder in args.search
    }
    if len(believed) > 1:
        believed["their mean"] = [statistics.mean(each) for each in zip(*believed.values())]
    for name, belief in believed.items():
        print(f"{name}, beliefs: {tau([-each for each in belief], losses)}")
    if believed:
        print(f"an additive fit to the other genotypes: {tau(additive_fit(table), losses)}")
    for checkpoint in args.supernet:
        print(f"{checkpoint}, losses of paths: {tau(path_losses(checkpoint, list(table)), losses)}")


if __name__ == "__main__":
    main()
