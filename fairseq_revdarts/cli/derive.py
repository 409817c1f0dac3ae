"""`revdarts-derive`: the genotype that a search has found, from its checkpoints."""

import argparse
import sys
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor

from ..architecture import derive_genotype, node_names
from ..genotype import Genotype
from ..search_checkpoint import load_search
from ..search_space import CANDIDATES
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
        default="",
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


def table(side: str, alpha: Tensor, chosen: Genotype) -> List[str]:
    """For each node the leading operations with their probabilities; * marks the chosen one."""
    lines = []
    winners = [name for layer in getattr(chosen, side) for name in layer[: alpha.size(1)]]
    probabilities = alpha.softmax(dim=-1).flatten(0, 1)
    for node, row, winner in zip(node_names(side, alpha.shape[:2]), probabilities, winners):
        leading = [CANDIDATES[side][index] for index in row.argsort(descending=True)[:SHOWN]]
        if winner not in leading:
            leading.append(winner)
        cells = (
            f"{name + ('*' if name == winner else ''):18}{row[CANDIDATES[side].index(name)]:.3f}"
            for name in leading
        )
        lines.append(f"{node:13} " + "   ".join(cells))
    return lines


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    args = parse_arguments(arguments)
    try:
        search = average([load_search(path) for path in args.checkpoints], args.checkpoints)
        exclude = [name.strip() for name in args.exclude.split(",") if name.strip()]
        genotype = derive_genotype(search, search["pooling"], exclude, args.by_family)
        genotype.save(args.output)
    except (ValueError, OSError) as error:
        sys.exit(f"revdarts-derive: error: {error}")
    print(f"{'node':13} leading operations and their probabilities (* chosen)")
    for side in CANDIDATES:
        print("\n".join(table(side, search[side], genotype)))
    print(f"genotype written to {args.output}")


if __name__ == "__main__":
    main()
