"""`revdarts-profile --estimate`: memory and hours of a fairseq-train command, before it runs."""

import argparse
import logging
import warnings
from contextlib import contextmanager
from typing import Iterator, List, Optional, Tuple

from ..profiling.estimate import cost_of, describe, rate_of
from ..profiling.training import read_training

SEPARATOR = "--"


def add_estimate_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the estimate."""
    group.add_argument(
        "--estimate",
        action="store_true",
        help="measure no table, but print memory and hours of the fairseq-train command whose "
        "flags stand behind --, and what these figures rest on; of the other flags, --length, "
        "--vocabulary and --memory count",
    )
    group.add_argument(
        "--flops",
        type=float,
        metavar="TFLOPS",
        help="of --estimate: 10^12 floating-point operations per second that a process reaches "
        "(default: measured on the GPU, with --cpu on the CPU; without a GPU, 6.6 as on a V100)",
    )


def divide(arguments: List[str]) -> Tuple[List[str], Optional[List[str]]]:
    """The arguments before the first --, and those behind it; None if there is none."""
    if SEPARATOR not in arguments:
        return arguments, None
    place = arguments.index(SEPARATOR)
    return arguments[:place], arguments[place + 1 :]


def check_estimate(
    parser: argparse.ArgumentParser, args: argparse.Namespace, flags: Optional[List[str]]
) -> None:
    """End with an error if the flags of the estimate do not fit."""
    if args.estimate != bool(flags):
        parser.error(
            "--estimate -- DATA FLAGS: the flags of fairseq-train are needed behind the dashes"
            if args.estimate
            else "--: flags of fairseq-train behind it are for --estimate"
        )
    if args.flops is not None and not (args.estimate and args.flops > 0):
        parser.error(f"--flops {args.flops:g}: a number above 0 is needed, with --estimate")


def estimate(args: argparse.Namespace, flags: List[str]) -> str:
    """The estimate for the flags of fairseq-train.

    Raises:
        ValueError: a flag that does not fit; names it, its value and what would be right
        SystemExit: fairseq's own parser does not take the flags
    """
    with quiet():
        training = read_training(flags, args.length, args.vocabulary)
        cost = cost_of(training)
        given = (args.flops or 0) * 1e12, "as given by --flops"
        return describe(training, cost, given if args.flops else rate_of(training), args.memory)


@contextmanager
def quiet() -> Iterator[None]:
    """Without hydra's warnings, and what a search logs while its schedule is played."""
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
