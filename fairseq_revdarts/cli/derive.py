"""`revdarts-derive`: the genotype that a search has found, from its checkpoints."""

import argparse
import sys
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from ..architecture import derive_genotype, family_probabilities, node_names, without
from ..genotype import Genotype, choices
from ..search_checkpoint import load_search
from ..search_space import CANDIDATES, family
from .user_dir import add_user_dir

SHOWN = 3


def parse_arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="revdarts-derive", description=__doc__)
    parser.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT", help="of a search; alpha is averaged"
    )
    parser.add_argument(
        "-o", "--output", default="genotype.json", help="genotype file (default: %(default)s)"
    )
    parser.add_argument(
        "--exclude",
        type=lambda names: [name.strip() for name in names.split(",") if name.strip()],
        default=[],
        metavar="OPERATIONS",
        help="take the best of the other operations, e.g. zero,identity",
    )
    parser.add_argument(
        "--by-family",
        action="store_true",
        help="take the family of operations with most probability, and its most probable operation",
    )
    add_user_dir(parser)
    return parser.parse_args(arguments)


def average(searches: List[Dict[str, Any]], paths: List[str]) -> Dict[str, Any]:
    """The mean alpha of several checkpoints of the same search space."""
    first = searches[0]
    for search, path in zip(searches, paths):
        same = search["pooling"] == first["pooling"] and all(
            search[side].shape == first[side].shape for side in CANDIDATES
        )
        if not same:
            raise ValueError(
                f"{path}: another search space than {paths[0]}'s; --cell-layers, splits and "
                "--pooling must agree for an average"
            )
    means = {side: torch.stack([s[side] for s in searches]).mean(dim=0) for side in CANDIDATES}
    return {"pooling": first["pooling"], **means}


def table(winners: Dict[str, str], probabilities: Dict[str, Tensor]) -> List[str]:
    """For each node the leading names with their probabilities; * marks the chosen one.

    Args:
        winners: what was chosen in each node
        probabilities: (nodes,) of each operation or family
    """
    lines = []
    for index, (node, winner) in enumerate(winners.items()):
        row = {name: column[index].item() for name, column in probabilities.items()}
        leading = sorted(row, key=row.get, reverse=True)[:SHOWN]
        if winner not in leading:
            leading.append(winner)
        cells = (f"{name + ('*' if name == winner else ''):21}{row[name]:.3f}" for name in leading)
        lines.append(f"{node:13} " + "   ".join(cells))
    return lines


def report(search: Dict[str, Any], genotype: Genotype, args: argparse.Namespace) -> None:
    """Print the probabilities of operations, and of their families if these were chosen first."""
    chosen = choices(genotype)
    nodes = {side: node_names(side, search[side].shape[:2]) for side in CANDIDATES}
    if args.by_family:
        print(f"{'node':13} leading families and their probabilities (* chosen)")
        for side in CANDIDATES:
            alpha = without(side, search[side], args.exclude).flatten(0, 1)
            winners = {node: family(chosen[node]) for node in nodes[side]}
            print("\n".join(table(winners, family_probabilities(side, alpha))))
        print()
    print(f"{'node':13} leading operations and their probabilities (* chosen)")
    for side in CANDIDATES:
        columns = search[side].softmax(dim=-1).flatten(0, 1).unbind(dim=-1)
        winners = {node: chosen[node] for node in nodes[side]}
        print("\n".join(table(winners, dict(zip(CANDIDATES[side], columns)))))


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    args = parse_arguments(arguments)
    try:
        search = average([load_search(path) for path in args.checkpoints], args.checkpoints)
        genotype = derive_genotype(search, search["pooling"], args.exclude, args.by_family)
        genotype.save(args.output)
    except (ValueError, OSError) as error:
        sys.exit(f"revdarts-derive: error: {error}")
    report(search, genotype, args)
    print(f"genotype written to {args.output}")


if __name__ == "__main__":
    main()
