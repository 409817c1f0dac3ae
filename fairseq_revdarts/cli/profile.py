"""`revdarts-profile`: memory and time of a search or a network, side by side over --backprop.

Without --genotype it profiles the supernet: a step of theta, one of alpha, and the pair, each with
no more gradients than it needs. In the rows "all gradients" both steps take the gradients of both,
as plain DARTS does. With --genotype it profiles a training step and the beam search of the derived
network, next to a fairseq transformer with as many parameters, both with fairseq's label-smoothed
cross entropy. A step is forward and backward, without the optimizer.

With --estimate it prints memory and hours of a training: revdarts-profile --estimate -- DATA FLAGS.
"""

import argparse
import json
import os
import shutil
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import fairseq
import torch

from ..models.revdarts_transformer.config import genotype_argument
from ..profiling.compare import Row, compare
from ..profiling.latency import describe as describe_latency
from ..profiling.latency import measure_latency
from ..profiling.table import LEGEND, describe, largest
from ..profiling.workload import DTYPES, Workload
from ..search.config import STRATEGIES
from ..search_space import CANDIDATES, POOLINGS
from ..utils.files import write_atomically
from ..utils.flags import flag_name
from .estimate import add_estimate_flags, check_estimate, divide, estimate, quiet
from .user_dir import add_user_dir

SWEPT = {"layers": [2, 4, 8], "hidden_size": [120, 240, 480]}
VOCABULARY = 8000
LEAST = {"tokens": 1, "length": 1, "runs": 1, "layers": 1, "vocabulary": 5}
#: Flags that the configuration of the network has under the same name.
OF_THE_NETWORK = (
    *("genotype", "cell_layers", "encoder_splits", "decoder_splits", "pooling"),
    *("encoder_candidates", "decoder_candidates"),
    *("hidden_size", "embed_dim", "attention_heads", "dropout"),
)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Appends the default to each help text; one without a default says itself what it means."""

    def _get_help_string(self, action: argparse.Action) -> Optional[str]:
        return action.help if action.default is None else super()._get_help_string(action)


def parse_arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="revdarts-profile", description=__doc__, formatter_class=HelpFormatter
    )
    add_user_dir(parser)
    _add_network_flags(parser.add_argument_group("network"))
    _add_batch_flags(parser.add_argument_group("batch"))
    _add_measurement_flags(parser.add_argument_group("measurement"))
    add_estimate_flags(parser.add_argument_group("estimate"))
    own, flags = divide(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(own)
    check_estimate(parser, args, flags)
    args.training = flags
    if args.vocabulary is None and not args.estimate:
        args.vocabulary = VOCABULARY
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is there; use --device cpu")
    for flag, least in LEAST.items():
        if getattr(args, flag) is not None and getattr(args, flag) < least:
            parser.error(f"--{flag} {getattr(args, flag)}: at least {least} is needed")
    if args.memory is not None and not args.memory > 0:
        parser.error(f"--memory {args.memory:g}: a number of GB above 0 is needed")
    if args.search_strategy and args.genotype:
        parser.error(f"--search-strategy {args.search_strategy}: not with --genotype")
    for other in ("genotype", "sweep", "search_strategy", "memory", "json"):
        if args.latency and getattr(args, other):
            parser.error(f"--latency {args.latency}: not with {flag_name(other)}")
    if args.values and not args.sweep:
        parser.error("--values: say with --sweep what they are")
    for flag in ("json", "latency"):
        file = getattr(args, flag)
        if file and not os.path.isdir(os.path.dirname(file) or "."):
            parser.error(f"--{flag} {file}: no such folder")
    return args


def _add_network_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--genotype",
        type=genotype_argument,
        help="genotype file, the name of one that ships with the package, or random:SEED "
        "(default: none, profile the supernet)",
    )
    add("--layers", type=int, default=12, help="number of layers of encoder and of decoder")
    add("--cell-layers", type=int, default=2, help="s: number of layers in a cell")
    add("--encoder-splits", type=int, default=2, help="number of parts of an encoder layer")
    add("--decoder-splits", type=int, default=3, help="number of parts of a decoder layer")
    add("--pooling", choices=POOLINGS, default="max", help="how the inputs of a node are pooled")
    for side in CANDIDATES:
        add(
            f"--{side}-candidates",
            metavar="OPERATIONS",
            help=f"operations that the nodes of the {side} choose from (default: all operations)",
        )
    add("--hidden-size", type=int, default=240, help="d: width of a layer")
    add("--embed-dim", type=int, default=128, help="e: width of the factorised embeddings")
    add(
        "--ffn-embed-dim",
        type=int,
        help="inner width of the operation ffn (default: 1.5 times --hidden-size)",
    )
    add("--attention-heads", type=int, default=8, help="number of heads of attention")
    add("--dropout", type=float, default=0.1, help="dropout probability")


def _add_batch_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--tokens", type=int, default=2000, help="number of target tokens per batch")
    add("--length", type=int, default=25, help="number of tokens per sentence")
    add(
        "--vocabulary",
        type=int,
        help=f"number of types in the joint dictionary (default: {VOCABULARY}; of --estimate: the "
        "dictionaries of the data)",
    )


def _add_measurement_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--precision", choices=DTYPES, default="fp32", help="of weights and activations")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    add("--runs", type=int, default=3, help="number of timed steps of each row, taken in turn")
    add("--seed", type=int, default=1, help="of weights and data")
    add(
        "--sweep",
        choices=[name.replace("_", "-") for name in SWEPT],
        help="profile several values of this flag (default: none, one network)",
    )
    add(
        "--values",
        type=_numbers,
        help="values of --sweep, e.g. 6,12,24 (default: 2,4,8 layers, hidden sizes 120,240,480)",
    )
    add(
        "--memory",
        type=float,
        metavar="GB",
        help="memory of a device in GB: say what fits, with weights, gradients, the moments of "
        "Adam, and activations (default: none, tell nothing)",
    )
    add(
        "--search-strategy",
        choices=STRATEGIES,
        help="also time a search by this strategy, in the mean over its schedule (default: none)",
    )
    add(
        "--latency",
        metavar="FILE",
        help="instead, measure the milliseconds of every candidate operation, to decode a sentence "
        "of --length tokens with beam 5 and to train on --tokens, and write them to this file, for "
        "--cost latency of a search (default: none)",
    )
    add("--json", metavar="FILE", help="also write all numbers to this file (default: none)")


def _numbers(text: str) -> List[int]:
    """A type of argparse: positive whole numbers with commas between them."""
    numbers = [int(word) for word in text.split(",") if word.strip().isdigit()]
    if len(numbers) < len(text.split(",")) or 0 in numbers:
        raise argparse.ArgumentTypeError(f"{text}: positive whole numbers are needed: 6,12,24")
    return numbers


def profile(args: argparse.Namespace, report: Callable[[str], None]) -> List[Row]:
    """The rows of one network; `report` is told what is measured next.

    Raises:
        ValueError: a flag that does not fit; names it, its value and what would be right
    """
    return compare(*network_of(args), args.runs, report, args.search_strategy)


def network_of(args: argparse.Namespace) -> Tuple[Workload, Dict[str, Any]]:
    """What a network computes, and its configuration."""
    workload = Workload(
        args.tokens,
        args.length,
        args.vocabulary,
        args.precision,
        args.device,
        args.seed,
        searches=args.genotype is None,
    )
    flags = {name: getattr(args, name) for name in OF_THE_NETWORK}
    flags["encoder_layers"] = flags["decoder_layers"] = args.layers
    flags["ffn_embed_dim"] = args.ffn_embed_dim or args.hidden_size * 3 // 2
    return workload, flags


def write_latency(args: argparse.Namespace) -> None:
    """Measure the latency table, print it and write it. Raises a ValueError as `profile`."""
    machine = describe_machine(args.device)
    print(machine)
    with progress_line("latency") as report:
        table = measure_latency(*network_of(args), args.runs, machine, report)
    table.save(args.latency)
    print(f"{describe_latency(table)}\nlatency table written to {args.latency}")


@contextmanager
def progress_line(prefix: str) -> Iterator[Callable[[str], None]]:
    """A function that shows a text on standard error.

    On a terminal it takes the place of the text before, and at the end nothing is left of it;
    elsewhere each text has a line.
    """
    in_place = sys.stderr.isatty()

    def show(text: str) -> None:
        line = f"{prefix}: {text}"
        if in_place:
            line = f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}"
        print(line, end="" if in_place else "\n", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if in_place:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def describe_machine(device: str) -> str:
    """Versions, device and threads, for whoever reads the table later."""
    where = (
        torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return f"torch {torch.__version__}, fairseq {fairseq.__version__}, {device}: {where}"


def print_estimate(args: argparse.Namespace) -> None:
    """What --estimate asks for."""
    try:
        print(estimate(args, args.training))
    except ValueError as error:
        sys.exit(f"revdarts-profile: error: {error}")


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    args = parse_arguments(arguments)
    if args.estimate:
        print_estimate(args)
        return
    swept = args.sweep.replace("-", "_") if args.sweep else None
    results: List[Dict[str, Any]] = []
    try:
        if args.latency:
            write_latency(args)
            return
        print(f"{describe_machine(args.device)}\n{LEGEND}")
        for value in args.values or SWEPT.get(swept, [None]):
            if swept:
                setattr(args, swept, value)
            size = f"{args.layers}+{args.layers} layers, d = {args.hidden_size}"
            with progress_line(size) as report, quiet():
                rows = profile(args, report)
            results.append({"settings": vars(args).copy(), "rows": rows})
            print(f"\n{size}, {args.tokens} tokens, {args.precision}, seed {args.seed}")
            print(describe(rows, args.memory), flush=True)
        if args.json:
            content = {"machine": describe_machine(args.device), "results": results}
            write_atomically(args.json, json.dumps(content))
    except (ValueError, OSError) as error:
        # The model has a flag for each stack, this command one for both.
        message = str(error).replace("--encoder-layers", "--layers")
        sys.exit(f"revdarts-profile: error: {message}")
    if swept and args.memory:
        print(f"\n{largest(results, swept, args.memory)}")


if __name__ == "__main__":
    main()
