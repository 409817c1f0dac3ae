"""Print how good each kind of network is on each pair of languages. three_pairs.sh calls this.

Reads WORK/SOURCE-TARGET, a folder for each pair, as table.py does. Also writes WORK/networks.csv,
one row for each network, which `revdarts-plot` draws. Times are shares of fairseq's transformer:
processor seconds of the training, and seconds per token of the translation.
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

from table import COLUMNS, mean, networks_in, signatures_of, write_networks

REFERENCE = "transformer"
HEADINGS = (
    "pair",
    "network",
    "trainings",
    "BLEU, mean",
    "its standard deviation",
    "ahead of the transformer",
    "chrF",
    "validation loss, bits per token",
    "parameters",
    "time of training",
    "time of translating",
)


def row(pair: str, kind: str, kinds: Dict[str, List[Dict[str, Any]]]) -> str:
    """A row of the table."""
    networks, reference = kinds[kind], kinds.get(REFERENCE)
    scores = [network["bleu"] for network in networks]
    lead = training = translating = "-"
    if reference:
        lead = f"{mean(networks, 'bleu') - mean(reference, 'bleu'):+.2f}"
        training = f"{mean(networks, 'seconds') / mean(reference, 'seconds'):.2f}"
        translating = f"{mean(reference, 'translated') / mean(networks, 'translated'):.2f}"
    cells = (
        pair,
        kind,
        str(len(networks)),
        f"{statistics.mean(scores):.2f}",
        f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-",
        lead,
        f"{mean(networks, 'chrf'):.2f}",
        f"{mean(networks, 'loss'):.3f}",
        f"{mean(networks, 'parameters'):,.0f}",
        training,
        translating,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    networks = [
        {"pair": folder.parent.name, **network}
        for folder in sorted(work.glob("*-*/stages"))
        for network in networks_in(folder.parent)
    ]
    if not networks:
        parser.error(f"{work}: no network scored there; three_pairs.sh does it")
    pairs: Dict[str, Dict[str, List[Dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for network in networks:
        pairs[network["pair"]][network["kind"]].append(network)
    print(f"| {' | '.join(HEADINGS)} |", "| --- " * len(HEADINGS) + "|", sep="\n")
    for pair, kinds in pairs.items():
        for kind in sorted(kinds, key=lambda kind: mean(kinds[kind], "loss")):
            print(row(pair, kind, kinds))
    print("", *signatures_of(networks), sep="\n")
    write_networks(work / "networks.csv", networks, ("pair", *COLUMNS, "chrf"))


if __name__ == "__main__":
    main()
