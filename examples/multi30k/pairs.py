"""Print how good each kind of network is on each pair of languages. three_pairs.sh calls this.

Reads WORK/SOURCE-TARGET, a folder for each pair, as table.py does. A kind is shown at its best
learning rate: that of the least validation loss on the pair for which several were tried. Also
writes WORK/networks.csv, one row for each network, which `revdarts-plot` draws. Times are shares of
fairseq's transformer: processor seconds of the training, and seconds per token of the translation.

With --add, networks that were trained elsewhere count, too, but not for the times.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

from network_files import COLUMNS, accept_files, each_of, with_added, write_networks
from table import best_of, mean, measured, networks_in, signatures_of

REFERENCE = "transformer"
HEADINGS = (
    "pair",
    "network",
    "learning rate",
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


def scored(work: Path) -> List[Dict[str, Any]]:
    """All networks that were scored, each with its pair."""
    return [
        {"pair": folder.parent.name, **each}
        for folder in sorted(work.glob("*-*/stages"))
        for each in networks_in(folder.parent)
    ]


def row(pair: str, kind: str, kinds: Dict[str, List[Dict[str, Any]]]) -> str:
    """A row of the table."""
    networks, reference = kinds[kind], kinds.get(REFERENCE)
    scores = each_of(networks, "bleu")
    lead = training = translating = "-"
    if reference:
        lead = f"{mean(networks, 'bleu') - mean(reference, 'bleu'):+.2f}"
        # of a training that was killed nothing is known
        timed, reference = (
            [each for each in measured(those) if each["seconds"]] for those in (networks, reference)
        )
        if timed and reference:
            training = f"{mean(timed, 'seconds') / mean(reference, 'seconds'):.2f}"
            translating = f"{mean(reference, 'translated') / mean(timed, 'translated'):.2f}"
    cells = (
        pair,
        kind,
        f"{networks[0]['rate']:g}",
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
    parser.add_argument("tuned", metavar="PAIR", help="for which several learning rates were tried")
    parser.add_argument("rates", metavar="RATE", nargs="+")
    accept_files(parser, pairs=True)
    args = parser.parse_args()
    pairs: Dict[str, Dict[str, List[Dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for each in with_added(scored(args.work), args.add):
        pairs[each["pair"]][each["kind"]].append(each)
    best = {}
    for kind, members in pairs[args.tuned].items():
        try:
            best[kind] = float(best_of(args.rates, members))
        except ValueError as error:
            print(f"{args.tuned}, {kind}: {error}", file=sys.stderr)
    if not best:
        parser.error(f"{args.tuned}: nothing to choose learning rates by")
    shown = []
    print(f"| {' | '.join(HEADINGS)} |", "| --- " * len(HEADINGS) + "|", sep="\n")
    for pair, kinds in sorted(pairs.items()):
        chosen = {
            kind: [each for each in members if each["rate"] == best[kind]]
            for kind, members in kinds.items()
            if kind in best
        }
        for kind in sorted(filter(chosen.get, chosen), key=lambda kind: mean(chosen[kind], "loss")):
            print(row(pair, kind, chosen))
            shown += chosen[kind]
    print("", *signatures_of(shown), sep="\n")
    write_networks(args.work / "networks.csv", shown, ("pair", *COLUMNS, "chrf"))


if __name__ == "__main__":
    main()
