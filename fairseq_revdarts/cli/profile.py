"""`revdarts-profile`: memory and time of a search's steps, side by side over the backprop modes.

Without --genotype it profiles the supernet: a step of theta, one of alpha and the pair, each with
no more gradients than it needs; beside them checkpointing and plain backpropagation (DARTS) that
take all gradients in both steps. With --genotype it profiles the training step and the beam search
of the derived network, beside fairseq's transformer of as many parameters. A step is forward and
backward, without the optimizer; the drift is that of the encoder / the decoder.
"""

import argparse
import json
import os
import statistics
import sys
from typing import Any, Dict, List, Optional

import fairseq
import torch

from ..models.revdarts_transformer.config import BACKPROP_MODES, genotype_argument
from ..profiling.measure import (
    DTYPES,
    Steps,
    Workload,
    generation_speed,
    is_out_of_memory,
    measure_drift,
    measure_memory,
    measure_time,
)
from ..search_space import POOLINGS
from .user_dir import add_user_dir

SWEPT = {"layers": [2, 4, 8], "hidden_size": [120, 240, 480]}
LEAST = {"tokens": 1, "length": 1, "runs": 1, "layers": 1, "vocabulary": 5}
ALL_GRADIENTS, TRANSFORMER = ", all gradients", "fairseq transformer"
MEGA = 1e6
ADAM_MOMENTS = 2


def parse_arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="revdarts-profile",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_user_dir(parser)
    network = parser.add_argument_group("network")
    network.add_argument("--genotype", type=genotype_argument, help="genotype file or name")
    network.add_argument("--layers", type=int, default=12, help="of encoder and of decoder")
    network.add_argument("--cell-layers", type=int, default=2)
    network.add_argument("--encoder-splits", type=int, default=2)
    network.add_argument("--decoder-splits", type=int, default=3)
    network.add_argument("--pooling", choices=POOLINGS, default="max")
    network.add_argument("--hidden-size", type=int, default=240)
    network.add_argument("--embed-dim", type=int, default=128)
    network.add_argument("--ffn-embed-dim", type=int, help="1.5 times --hidden-size if not given")
    network.add_argument("--attention-heads", type=int, default=8)
    network.add_argument("--dropout", type=float, default=0.1)
    batch = parser.add_argument_group("batch")
    batch.add_argument("--tokens", type=int, default=2000, help="target tokens a batch")
    batch.add_argument("--length", type=int, default=25, help="tokens a sentence")
    batch.add_argument("--vocabulary", type=int, default=8000, help="types, joint")
    run = parser.add_argument_group("measurement")
    run.add_argument("--precision", choices=DTYPES, default="fp32")
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    run.add_argument("--runs", type=int, default=3, help="timed runs of each, taken in turn")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--sweep", choices=[name.replace("_", "-") for name in SWEPT])
    run.add_argument("--values", type=_numbers, help="swept values, e.g. 6,12,24")
    run.add_argument("--memory", type=float, help="GB: say what fits, with Adam's moments")
    run.add_argument("--json", metavar="FILE", help="write all numbers to FILE")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is there; use --device cpu")
    for flag, least in LEAST.items():
        if getattr(args, flag) < least:
            parser.error(f"--{flag} {getattr(args, flag)}: at least {least} is needed")
    if args.values and not args.sweep:
        parser.error("--values: say with --sweep what they are")
    if args.json and not os.path.isdir(os.path.dirname(args.json) or "."):
        parser.error(f"--json {args.json}: no such folder")
    return args


def _numbers(text: str) -> List[int]:
    """A type of argparse: positive whole numbers with commas between them."""
    numbers = [int(word) for word in text.split(",") if word.strip().isdigit()]
    if len(numbers) < len(text.split(",")) or 0 in numbers:
        raise argparse.ArgumentTypeError(f"{text}: positive whole numbers are needed: 6,12,24")
    return numbers


def profile(args: argparse.Namespace) -> List[Dict[str, Any]]:
    """A row for each way of backpropagation (and the transformer): memory in bytes, seconds."""
    workload = Workload(
        args.tokens, args.length, args.vocabulary, args.precision, args.device, args.seed
    )
    flags = {
        name: getattr(args, name)
        for name in (
            *("genotype", "cell_layers", "encoder_splits", "decoder_splits", "pooling"),
            *("hidden_size", "embed_dim", "attention_heads", "dropout"),
        )
    }
    flags["encoder_layers"] = flags["decoder_layers"] = args.layers
    flags["ffn_embed_dim"] = args.ffn_embed_dim or args.hidden_size * 3 // 2
    modes: Dict[str, Optional[str]] = {mode: mode for mode in BACKPROP_MODES}
    if args.genotype is None:
        modes.update({f"{mode}{ALL_GRADIENTS}": mode for mode in ("checkpoint", "store")})
    else:
        modes[TRANSFORMER] = None
    rows = [{"network": name, "failed": None} for name in modes]
    try:
        contestants = _build(workload, flags, list(modes))
    except (RuntimeError, MemoryError) as error:
        return [{**row, "failed": _out_of_memory(error)} for row in rows]
    for run in range(-1, args.runs):
        for row, steps, mode in zip(rows, contestants, modes.values()):
            if row["failed"] is None:
                _measure(row, steps, mode, workload, run)
    return [_summary(row) for row in rows]


def _build(workload: Workload, flags: Dict[str, Any], names: List[str]) -> List[Steps]:
    """The steps of each network in the table; those of this package share one."""
    model = workload.build(flags)
    networks = dict.fromkeys(names, model)
    if TRANSFORMER in names:
        parameters = sum(weight.numel() for weight in model.parameters())
        layers = flags["encoder_layers"]
        networks[TRANSFORMER] = workload.build_transformer(parameters, layers)
    return [
        Steps(workload, network, all_gradients=name.endswith(ALL_GRADIENTS))
        for name, network in networks.items()
    ]


def _out_of_memory(error: Exception) -> str:
    """What stands in the table in place of figures; raises `error` if it is another one."""
    if not is_out_of_memory(error):
        raise error
    return "out of memory"


def _measure(
    row: Dict[str, Any], steps: Steps, mode: Optional[str], workload: Workload, run: int
) -> None:
    """Run -1 measures memory (and warms up), the others time."""
    if mode is not None:
        for stack in steps.model.stacks():
            stack.backprop = mode
    try:
        if run < 0 and mode == "reconstruct":
            row["drift"] = measure_drift(steps)
        for name, step in steps.named().items():
            if run < 0:
                row[name] = measure_memory(steps, step)
                row[f"{name}_seconds"] = []
            else:
                row[f"{name}_seconds"].append(measure_time(steps, step))
        if run >= 0 and not steps.alphas and mode in (None, "store"):
            row.setdefault("generated_a_second", []).append(generation_speed(workload, steps.model))
    except (RuntimeError, MemoryError) as error:
        row["failed"] = _out_of_memory(error)
        steps.clear()


def _summary(row: Dict[str, Any]) -> Dict[str, Any]:
    if row["failed"] is None and "alpha" in row:
        pairs = zip(row["theta_seconds"], row["alpha_seconds"])
        row["pair_seconds"] = [sum(pair) for pair in pairs]
    return row


def table(rows: List[Dict[str, Any]], memory: Optional[float]) -> str:
    """The rows as text: medians, and in brackets their spread."""
    done = [row for row in rows if row["failed"] is None]
    names = ("theta", "alpha", "pair")
    steps = [name for name in names if any(f"{name}_seconds" in row for row in done)]
    measured = [name for name in steps if name != "pair"]
    header = ["network", *(f"{name} MB" for name in measured), "weights MB", "gradients MB"]
    header += [f"{name} s" for name in steps]
    drifts = any("drift" in row for row in done)
    header += ["drift"] if drifts else []
    generated = any("generated_a_second" in row for row in rows)
    header += ["generated tokens/s"] if generated else []
    header += [f"fits {memory:g} GB"] if memory else []
    lines = [header]
    for row in rows:
        if row["failed"] is not None:
            lines.append([row["network"], row["failed"]])
            continue
        line = [row["network"], *(f"{row[name]['activations'] / MEGA:.1f}" for name in measured)]
        line += [f"{row['theta'][part] / MEGA:.1f}" for part in ("weights", "gradients")]
        line += [_median(row[f"{name}_seconds"]) for name in steps]
        if drifts:
            line.append(" / ".join(f"{drift:.1e}" for drift in row.get("drift", [])) or "-")
        if generated:
            line.append(_median(row["generated_a_second"]) if "generated_a_second" in row else "-")
        if memory:
            line.append("yes" if total_bytes(row) <= memory * 1e9 else "no")
        lines.append(line)
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def _median(values: List[float]) -> str:
    return f"{statistics.median(values):.3g} [{min(values):.3g}-{max(values):.3g}]"


def total_bytes(row: Dict[str, Any]) -> int:
    """Weights, their gradients, Adam's two moments and the larger step's activations."""
    theta = row["theta"]
    activations = max(row[step]["activations"] for step in ("theta", "alpha") if step in row)
    return theta["weights"] * (1 + ADAM_MOMENTS) + theta["gradients"] + activations


def describe_machine(device: str) -> str:
    """Versions, device and threads, for whoever reads the table later."""
    where = (
        torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return f"torch {torch.__version__}, fairseq {fairseq.__version__}, {device}: {where}"


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    args = parse_arguments(arguments)
    swept = args.sweep.replace("-", "_") if args.sweep else None
    results = []
    print(describe_machine(args.device))
    try:
        for value in args.values or SWEPT.get(swept, [None]):
            if swept:
                setattr(args, swept, value)
            rows = profile(args)
            results.append({"settings": vars(args).copy(), "rows": rows})
            size = f"{args.layers}+{args.layers} layers, d = {args.hidden_size}"
            print(f"\n{size}, {args.tokens} tokens, {args.precision}, seed {args.seed}")
            print(table(rows, args.memory), flush=True)
    except ValueError as error:
        sys.exit(f"revdarts-profile: error: {error}")
    if swept and args.memory:
        print_largest(results, swept, args.memory)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"machine": describe_machine(args.device), "results": results}, file)


def print_largest(results: List[Dict[str, Any]], swept: str, memory: float) -> None:
    """For each way of backpropagation the largest swept value that fits `memory` GB."""
    print(f"\nlargest {swept.replace('_', ' ')} of those swept that fits {memory:g} GB")
    for index, row in enumerate(results[0]["rows"]):
        fitting = [
            result["settings"][swept]
            for result in results
            if result["rows"][index]["failed"] is None
            and total_bytes(result["rows"][index]) <= memory * 1e9
        ]
        print(f"{row['network']:28}{max(fitting, default='none')}")


if __name__ == "__main__":
    main()
