"""Print how good each kind of network is on each pair of languages. three_pairs.sh calls this.

Reads WORK/SOURCE-TARGET, a folder for each pair, as table.py does. Each genotype has a row, with
the BLEU of each seed in brackets. A kind is shown at its best learning rate: that of the least
validation loss on the pair for which several were tried. Also writes WORK/networks.csv, one row for
each network, which `revdarts-plot` draws. Times are shares of fairseq's transformer: processor
seconds of the training, and seconds per token of the translation.

With --add, networks that were trained elsewhere count, too, but not for the times.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List

from network_files import COLUMNS, accept_files, grouped, with_added, write_networks
from table import best_of, mean, measured, networks_in, signatures_of

REFERENCE = "transformer"
HEADINGS = (
    "pair",
    "network",
    "learning rate",
    "seeds",
    "BLEU",
    "standard deviation",
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


def row(networks: List[Dict[str, Any]], reference: List[Dict[str, Any]]) -> str:
    """A row of the table: the trainings of one genotype, next to those of the transformer."""
    scores = [each["bleu"] for each in networks]
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
        networks[0]["pair"],
        networks[0]["kind"],
        f"{networks[0]['rate']:g}",
        ", ".join(str(each["seed"]) for each in networks),
        f"{mean(networks, 'bleu'):.2f} ({', '.join(f'{score:.2f}' for score in scores)})",
        f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-",
        lead,
        f"{mean(networks, 'chrf'):.2f}",
        f"{mean(networks, 'loss'):.3f}",
        f"{mean(networks, 'parameters'):,.0f}",
        training,
        translating,
    )
    return f"| {' | '.join(cells)} |"


def best_rates(networks: List[Dict[str, Any]], tuned: str, rates: List[str]) -> Dict[str, float]:
    """The learning rate of each kind that was trained on the pair `tuned`."""
    best = {}
    there = (each for each in networks if each["pair"] == tuned)
    for kind, members in grouped(there, "kind").items():
        try:
            best[kind] = float(best_of(rates, members))
        except ValueError as error:
            print(f"{tuned}, {kind}: {error}", file=sys.stderr)
    return best


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("tuned", metavar="PAIR", help="for which several learning rates were tried")
    parser.add_argument("rates", metavar="RATE", nargs="+")
    accept_files(parser, pairs=True)
    args = parser.parse_args()
    networks = with_added(scored(args.work), args.add)
    best = best_rates(networks, args.tuned, args.rates)
    if not best:
        parser.error(f"{args.tuned}: nothing to choose learning rates by")
    shown = [each for each in networks if each["rate"] == best.get(each["kind"])]
    rows = grouped(shown, "pair", "kind", "genotype")
    print(f"| {' | '.join(HEADINGS)} |", "| --- " * len(HEADINGS) + "|", sep="\n")
    for key in sorted(rows, key=lambda key: (key[0], mean(rows[key], "loss"))):
        print(row(rows[key], rows.get((key[0], REFERENCE, ""), [])))
    print("", *signatures_of(shown), sep="\n")
    write_networks(args.work / "networks.csv", shown, ("pair", *COLUMNS, "chrf"))


if __name__ == "__main__":
    main()
