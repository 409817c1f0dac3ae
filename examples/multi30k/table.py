"""The table of proof.sh: BLEU, its standard deviation and range for each kind of network.

Reads scores and logs in WORK/stages. Also writes WORK/networks.csv,
one row per network: kind, genotype (as JSON; empty for fairseq's transformer), seed (of the
training), parameters, loss (validation, in bits per token), bleu, and seconds (of the processor,
for the training).
"""

import argparse
import csv
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

import torch

import fairseq_revdarts  # noqa: F401  lets torch load what its checkpoints hold

COLUMNS = ("kind", "genotype", "seed", "parameters", "loss", "bleu", "seconds")
HEADINGS = (
    "network",
    "trainings",
    "BLEU, mean",
    "its standard deviation",
    "lowest, highest",
    "validation loss, bits per token",
    "parameters",
    "words per second, training",
    "tokens per second, translating",
)


def numbers(pattern: str, path: Path) -> List[float]:
    """All that `pattern` finds in a file, as numbers."""
    text = path.read_text(encoding="utf-8")
    return [float(found.replace(",", "")) for found in re.findall(pattern, text, re.MULTILINE)]


def genotype_of(checkpoint: Path) -> str:
    """The genotype in a checkpoint, as JSON; empty if it is fairseq's transformer."""
    model = torch.load(checkpoint, weights_only=True, mmap=True)["cfg"]["model"]
    genotype = dict(vars(model) if isinstance(model, argparse.Namespace) else model).get("genotype")
    return json.dumps(json.loads(genotype)) if genotype else ""


def network(work: Path, run: str) -> Dict[str, Any]:
    """What is known of a network that was scored, such as "random3-1", training seed 1."""
    score, log = work / f"stages/{run}-score.log", work / f"stages/{run}.log"
    kind, seed = re.match(r"([a-z]+).*-(\d+)$", run).groups()
    return {
        "kind": kind,
        "genotype": genotype_of(work / run / "checkpoint_last.pt"),
        "seed": int(seed),
        "parameters": int(numbers(r"^parameters = ([\d,]+)", score)[-1]),
        "loss": numbers(r"valid on .* nll_loss[ =]([\d.]+)", log)[-1],
        "bleu": numbers(r"^BLEU = ([\d.]+)", score)[-1],
        "seconds": round(sum(numbers(r"^processor seconds = ([\d.]+)", log))),
        "trained": statistics.median(numbers(r"\| train(?:_inner)? \| .*wps[ =]([\d.]+)", log)),
        "translated": numbers(r"([\d.]+) tokens/s", work / f"stages/{run}-translate.log")[-1],
        "signature": re.search(r"signature: (\S+)", score.read_text(encoding="utf-8"))[1],
    }


def mean(networks: List[Dict[str, Any]], name: str) -> float:
    """Mean of a number over networks."""
    return statistics.mean(network[name] for network in networks)


def row(kind: str, networks: List[Dict[str, Any]]) -> str:
    """A row of the table."""
    scores = [network["bleu"] for network in networks]
    cells = (
        kind,
        str(len(networks)),
        f"{mean(networks, 'bleu'):.2f}",
        f"{statistics.stdev(scores):.2f}" if len(networks) > 1 else "-",
        f"{min(scores):.2f}, {max(scores):.2f}",
        f"{mean(networks, 'loss'):.3f}",
        *(f"{mean(networks, name):,.0f}" for name in ("parameters", "trained", "translated")),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Entry point."""
    work = Path(sys.argv[1])
    scored = sorted((work / "stages").glob("*-score.done"))
    if not scored:
        sys.exit(f"{work}: no network scored there; proof.sh does it")
    networks = [network(work, done.name[: -len("-score.done")]) for done in scored]
    with open(work / "networks.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(networks)
    kinds: Dict[str, List[Dict[str, Any]]] = defaultdict(list)
    for each in networks:
        kinds[each["kind"]].append(each)
    print(f"| {' | '.join(HEADINGS)} |")
    print("| --- " * len(HEADINGS) + "|")
    for kind, members in sorted(kinds.items(), key=lambda item: -mean(item[1], "bleu")):
        print(row(kind, members))
    print("\n" + "\n".join(sorted({each["signature"] for each in networks})))


if __name__ == "__main__":
    main()
