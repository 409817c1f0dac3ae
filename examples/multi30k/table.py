"""The tables of proof.sh: how good each kind of network is, at which learning rate, at what cost.

Reads scores and logs in WORK/stages. A kind is shown at its best learning rate: that of the least
validation loss with the first seed. Also writes WORK/networks.csv, one row for each network at that
rate: kind, rate, genotype (as JSON; empty without one), seed (of the training),
parameters, loss (validation, in bits per token), bleu, and seconds (of the processor, for the
training).

    python table.py WORK [--add CSV ...]

--add also shows networks of such files, and of benchmark.csv: those of other machines, whose speed
is not compared. A genotype that was trained with several seeds counts once, with their mean.
"""

import argparse
import json
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from network_files import COLUMNS, accept_files, each_of, grouped, with_added, write_networks

import fairseq_revdarts  # noqa: F401  lets torch load what its checkpoints hold

HEADINGS = (
    "network",
    "trainings",
    "validation loss, bits per token",
    "standard deviation",
    "BLEU",
    "standard deviation",
    "parameters",
    "words per second, training",
    "tokens per second, translating",
)


def numbers(pattern: str, path: Path) -> List[float]:
    """All that `pattern` finds in a file, as numbers."""
    text = path.read_text(encoding="utf-8")
    return [float(found.replace(",", "")) for found in re.findall(pattern, text, re.MULTILINE)]


def settings_of(checkpoint: Path) -> Dict[str, Any]:
    """A checkpoint's genotype, as JSON (empty without one), and its learning rate."""
    config = torch.load(checkpoint, weights_only=True, mmap=True)["cfg"]
    model = config["model"]
    flags = dict(vars(model) if isinstance(model, argparse.Namespace) else model)
    genotype = flags.get("genotype")
    return {
        "genotype": json.dumps(json.loads(genotype)) if genotype else "",
        "rate": config["optimization"]["lr"][0],
    }


def network(work: Path, run: str) -> Dict[str, Any]:
    """What is known of a network that was scored, such as "random3-1", training seed 1."""
    score, log = work / f"stages/{run}-score.log", work / f"stages/{run}.log"
    kind, seed = re.match(r"([a-z]+).*-(\d+)$", run).groups()
    return {
        "kind": kind,
        **settings_of(work / run / "checkpoint_last.pt"),
        "seed": int(seed),
        "parameters": int(numbers(r"^parameters = ([\d,]+)", score)[-1]),
        "loss": validation_loss(log),
        "bleu": numbers(r"^BLEU = ([\d.]+)", score)[-1],
        "chrf": numbers(r"^chrF2 = ([\d.]+)", score)[-1],
        "seconds": processor_seconds(log),
        "trained": statistics.median(numbers(r"\| train(?:_inner)? \| .*wps[ =]([\d.]+)", log)),
        "translated": numbers(r"([\d.]+) tokens/s", work / f"stages/{run}-translate.log")[-1],
        "signatures": re.findall(r"signature: (\S+)", score.read_text(encoding="utf-8")),
    }


def validation_loss(log: Path) -> float:
    """The last one, in bits per token; infinity if it was no number."""
    loss = numbers(r"valid on .* nll_loss[ =]([\d.]+|nan|inf)", log)[-1]
    return loss if math.isfinite(loss) else math.inf


def processor_seconds(log: Path) -> int:
    """Of a search or a training; of a part that was killed nothing is known."""
    return round(sum(numbers(r"^processor seconds = ([\d.]+)", log)))


def networks_in(work: Path) -> List[Dict[str, Any]]:
    """All networks that were scored, by kind, rate and seed."""
    runs = [done.name[: -len("-score.done")] for done in (work / "stages").glob("*-score.done")]
    networks = [network(work, run) for run in runs]
    return sorted(networks, key=lambda each: (each["kind"], each["rate"], each["seed"]))


def of_first_seed(networks: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Those whose training had the smallest seed: with it, all learning rates are tried."""
    first = min(each["seed"] for each in networks)
    return [each for each in networks if each["seed"] == first]


def losses_by_rate(networks: List[Dict[str, Any]]) -> Dict[float, float]:
    """At each learning rate the mean validation loss of networks of one kind, first seed."""
    tried = grouped(of_first_seed(networks), "rate")
    return {rate: mean(members, "loss") for rate, members in tried.items()}


def best_rate(networks: List[Dict[str, Any]]) -> float:
    """The learning rate at which networks of one kind have the least mean validation loss."""
    losses = losses_by_rate(networks)
    return min(losses, key=losses.__getitem__)


def best_of(rates: List[str], networks: List[Dict[str, Any]]) -> str:
    """As `best_rate`, but only of `rates`, one of which it returns.

    Raises:
        ValueError: no network was scored at one of them
    """
    tried = [each for each in networks if each["rate"] in map(float, rates)]
    if not tried:
        raise ValueError(f"no network was scored at {' or '.join(rates)}; see the logs")
    return next(rate for rate in rates if float(rate) == best_rate(tried))


def mean(networks: List[Dict[str, Any]], name: str) -> float:
    """Mean of a number over networks, in which each genotype counts once."""
    return statistics.mean(each_of(networks, name))


def measured(networks: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Those whose logs are in WORK; of the others, the speed is not known."""
    return [each for each in networks if "translated" in each]


def speed(networks: List[Dict[str, Any]], name: str) -> str:
    """The mean over those that were measured."""
    here = measured(networks)
    return f"{mean(here, name):,.0f}" if here else "-"


def spread(networks: List[Dict[str, Any]], name: str, form: str) -> Tuple[str, str]:
    """Mean, lowest and highest of a number, and its standard deviation."""
    numbers = each_of(networks, name)
    middle, least, most = (
        format(number, form) for number in (statistics.mean(numbers), min(numbers), max(numbers))
    )
    deviation = format(statistics.stdev(numbers), form) if len(numbers) > 1 else "-"
    return f"{middle} ({least} to {most})", deviation


def row(kind: str, networks: List[Dict[str, Any]]) -> str:
    """A row of the table."""
    cells = (
        kind,
        str(len(networks)),
        *spread(networks, "loss", ".3f"),
        *spread(networks, "bleu", ".2f"),
        f"{mean(networks, 'parameters'):,.0f}",
        *(speed(networks, name) for name in ("trained", "translated")),
    )
    return f"| {' | '.join(cells)} |"


def at_best_rate(networks: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Networks of one kind that were trained at its best learning rate."""
    return [each for each in networks if each["rate"] == best_rate(networks)]


def table(shown: Dict[str, List[Dict[str, Any]]]) -> List[str]:
    """A row for each kind, the lowest validation loss first."""
    ordered = sorted(shown, key=lambda kind: mean(shown[kind], "loss"))
    return [
        f"| {' | '.join(HEADINGS)} |",
        "| --- " * len(HEADINGS) + "|",
        *(row(kind, shown[kind]) for kind in ordered),
    ]


def rates_table(kinds: Dict[str, List[Dict[str, Any]]]) -> List[str]:
    """The validation loss of each kind at each learning rate, with the first seed."""
    rates = sorted({each["rate"] for members in kinds.values() for each in members})
    lines = [f"| learning rate | {' | '.join(f'{rate:g}' for rate in rates)} |"]
    lines.append("| --- " * (1 + len(rates)) + "|")
    for kind, members in kinds.items():
        losses = {rate: f"{loss:.3f}" for rate, loss in losses_by_rate(members).items()}
        lines.append(f"| {kind} | {' | '.join(losses.get(rate, '-') for rate in rates)} |")
    return lines


def searches_table(work: Path) -> List[str]:
    """The processor seconds of the searches, mean over the seeds; nothing if there are none."""
    seconds: Dict[str, List[int]] = defaultdict(list)
    for done in sorted((work / "stages").glob("*-search-*.done")):
        seconds[done.name.split("-")[0]].append(processor_seconds(done.with_suffix(".log")))
    if not seconds:
        return []
    lines = ["| search | searches | processor seconds |", "| --- | --- | --- |"]
    for kind, spent in seconds.items():
        lines.append(f"| {kind} | {len(spent)} | {statistics.mean(spent):.0f} |")
    return lines


def signatures_of(networks: List[Dict[str, Any]]) -> List[str]:
    """sacrebleu's signatures of the scores, each once."""
    return list(dict.fromkeys(name for each in measured(networks) for name in each["signatures"]))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "--best-rate", nargs="+", metavar=("KIND", "RATE"), help="print the best rate of a kind"
    )
    accept_files(parser)
    args = parser.parse_args()
    kinds = grouped(with_added(networks_in(args.work), args.add), "kind")
    if args.best_rate:
        kind, *rates = args.best_rate
        try:
            print(best_of(rates, kinds.get(kind, [])))
        except ValueError as error:
            parser.error(f"{kind}: {error}")
        return
    if not kinds:
        parser.error(f"{args.work}: no network scored there; proof.sh does it")
    shown = {kind: at_best_rate(members) for kind, members in kinds.items()}
    networks = [each for members in shown.values() for each in members]
    write_networks(args.work / "networks.csv", networks, COLUMNS)
    parts = [table(shown), rates_table(kinds), searches_table(args.work), signatures_of(networks)]
    print("\n\n".join("\n".join(part) for part in parts if part))


if __name__ == "__main__":
    main()
