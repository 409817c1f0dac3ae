"""`revdarts-derive`: the genotype that a search has found, from its checkpoints."""

import argparse
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from ..derivation import (
    derive_genotype,
    most_probable,
    rows_by_node,
)
from ..genotype import Genotype
from ..search.checkpoint import SavedSearch, load_checkpoint, search_of
from ..search.cost import against_limit, in_words, latency_costs
from ..search.derived_weights import derived_checkpoint, derived_weights
from ..search.latency_table import load_latency_table
from ..search_space import CANDIDATES
from ..utils.interruption import save
from ..utils.parameters import count_parameters
from .certainty import ALONE, chosen_probabilities, print_certainty
from .user_dir import add_user_dir

LAST_CHECKPOINT = "checkpoint_last.pt"


def parse_arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="revdarts-derive", description=__doc__)
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="SEARCH",
        help=f"a search's checkpoint, or its folder for {LAST_CHECKPOINT}; alpha is averaged over "
        "several",
    )
    parser.add_argument(
        "-o", "--output", default="genotype.json", help="genotype file (default: %(default)s)"
    )
    parser.add_argument(
        "--exclude",
        type=lambda names: [name.strip() for name in names.split(",") if name.strip()],
        default=[],
        metavar="OPERATIONS",
        help="take the best of the other operations, e.g. zero,identity (default: none)",
    )
    parser.add_argument(
        "--by-family",
        action="store_true",
        help="take the most probable family of operations, and its most probable operation",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="K",
        help="also write the next ones of the K most probable genotypes, to files named like the "
        "output with -2, -3, ... (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="also write the network with the weights that it has in the search, a checkpoint for "
        "fairseq-generate or --finetune-from-model (default: none)",
    )
    parser.add_argument(
        "--latency-table",
        metavar="FILE",
        help="also print the milliseconds in which a network decodes a sentence, from a file of "
        "revdarts-profile --latency (default: none)",
    )
    add_user_dir(parser)
    args = parser.parse_args(arguments)
    _check_arguments(parser, args)
    return args


def _check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.top < 1:
        parser.error(f"--top {args.top}: at least 1 is needed")
    if args.top > 1 and args.by_family:
        parser.error("--top: not with --by-family, which ranks families and not genotypes")
    if args.weights and len(args.checkpoints) > 1:
        parser.error("--weights: the weights are those of one checkpoint; name no other one")


def checkpoint_in(path: str) -> str:
    """The checkpoint that `path` names: a file, or the last one in a search's folder."""
    return str(Path(path) / LAST_CHECKPOINT) if Path(path).is_dir() else path


def average(searches: List[SavedSearch], paths: List[str]) -> SavedSearch:
    """The mean alpha of several checkpoints of the same search space.

    Raises:
        ValueError: one has another search space than the first, or other candidates left in a node
    """
    first = searches[0]
    for search, path in zip(searches, paths):
        spaces = [(one.pooling, one.shapes(), one.candidates) for one in (search, first)]
        if spaces[0] != spaces[1]:
            raise ValueError(
                f"{path}: another search space than that of {paths[0]}; --cell-layers, splits, "
                "--pooling and candidates must agree for an average"
            )
        node = other_node(search, first)
        if node:
            raise ValueError(
                f"{path}: other candidates are left in {node} than in {paths[0]}, so there is no "
                "average; give checkpoints from before candidates were eliminated, or one "
                "checkpoint"
            )
    means = {
        name: {
            side: np.mean([getattr(search, name)[side] for search in searches], axis=0).tolist()
            for side in CANDIDATES
        }
        for name in ("alphas", "last_choices")
    }
    return replace(first, **means)


def other_node(one: SavedSearch, other: SavedSearch) -> Optional[str]:
    """The first node that has other candidates left in `one` than in `other`, if there is one."""
    for side in CANDIDATES:
        rows = rows_by_node(side, other.alphas[side])
        for node, row in rows_by_node(side, one.alphas[side]).items():
            if [*map(math.isinf, row)] != [*map(math.isinf, rows[node])]:
                return node
    return None


def derive(search: SavedSearch, args: argparse.Namespace) -> List[Genotype]:
    """The genotypes that were asked for, the first choice first."""
    if args.top == 1:
        return [derive_genotype(search.alphas, search.pooling, args.exclude, args.by_family)]
    return most_probable(search.alphas, search.pooling, args.top, args.exclude)


def numbered(path: str, number: int) -> str:
    """`path` for the first genotype, then with -2, -3, ... at the end of its name."""
    stem, ending = os.path.splitext(path)
    return path if number == 1 else f"{stem}-{number}{ending}"


def costs_of(
    checkpoint: Any, search: SavedSearch, genotypes: List[Genotype], table: Optional[str]
) -> List[Dict[str, float]]:
    """The costs of each genotype by their kind: parameters, and latency if there is a table."""
    network = checkpoint["cfg"]["model"]
    times = table and latency_costs(load_latency_table(table, network, search.candidates), network)
    return [
        {
            "parameters": count_parameters(derived_weights(checkpoint["model"], genotype)),
            **({"latency": times.of(genotype)} if times else {}),
        }
        for genotype in genotypes
    ]


def beyond_budget(checkpoint: Any, costs: Mapping[str, float]) -> Optional[str]:
    """What there is to say about a network above --cost-limit of its search, or may be."""
    flags = checkpoint["cfg"].get("task") or {}
    kind, limit = flags.get("cost"), flags.get("cost_limit")
    if kind is None:
        return None
    if kind not in costs:
        return (
            f"--cost-limit of the search is {in_words(kind, limit)}; compare with --latency-table"
        )
    return against_limit(kind, costs[kind], limit) if costs[kind] > limit else None


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    args = parse_arguments(arguments)
    paths = [checkpoint_in(path) for path in args.checkpoints]
    try:
        checkpoints = [load_checkpoint(path) for path in paths]
        search = average(list(map(search_of, checkpoints, paths)), paths)
        genotypes = derive(search, args)
        costs = costs_of(checkpoints[0], search, genotypes, args.latency_table)
        files = [numbered(args.output, number) for number in range(1, len(genotypes) + 1)]
        for genotype, file in zip(genotypes, files):
            genotype.save(file)
        if args.weights:
            save(derived_checkpoint(checkpoints[0], genotypes[0]), args.weights)
    except (ValueError, OSError) as error:
        sys.exit(f"revdarts-derive: error: {error}")
    print_certainty(search, genotypes[0], args.exclude, args.by_family)
    for genotype, file, cost in zip(genotypes, files, costs):
        size = ", ".join(in_words(kind, value) for kind, value in cost.items())
        share = math.prod(chosen_probabilities(search, genotype))
        print(f"genotype written to {file}: {size}, probability {share:.3g}")
        beyond = beyond_budget(checkpoints[0], cost)
        if beyond:
            print(f"warning: {file}: {beyond}")
    if len(genotypes) < args.top:
        print(f"--top {args.top}: there are no more; the search has left no others")
    if args.weights:
        print(f"network written to {args.weights}")
        mixed = sum(p < ALONE for p in chosen_probabilities(search, genotypes[0]))
        if mixed:
            print(
                f"warning: {args.weights}: in {mixed} nodes the operation had less than "
                f"{100 * ALONE:.0f} % of the mixture, and was not trained to work alone; train the "
                "network before it translates"
            )


if __name__ == "__main__":
    main()
