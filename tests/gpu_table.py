"""The table of gpu.sh: python tests/gpu_table.py WORK GPUS."""

import json
import re
import sys
from datetime import date
from pathlib import Path
from statistics import median

import torch

GIGA = 1e9
HEADER = """\
| | precision | s | allocated, GB | reserved, GB | |
| --- | --- | --- | --- | --- | --- |"""


def row(*cells):
    return f"| {' | '.join(cells)} |"


def searched(work, precision, gpus, total):
    """The line of a search: `total` is the memory of a GPU in bytes."""
    lines = re.findall(r"\{.*\"train_wall\".*\}", (work / f"{precision}.log").read_text())
    logged = [json.loads(line) for line in lines if '"ups"' in line]
    free = min(float(entry["gb_free"]) for entry in logged) * 2**30
    *_, last = map(json.loads, (work / precision / "search.jsonl").read_text().splitlines())
    return row(
        f"search, {last['update']} updates, {gpus} GPU" + ("s" if gpus > 1 else ""),
        precision,
        f"{1 / median(float(entry['ups']) for entry in logged):.3g}",
        f"{(total - free) / GIGA:.2f}",
        "",
        f"loss {last['loss']:.2f}, alpha_loss {last['alpha_loss'] or float('nan'):.2f}, "
        f"drift {last['drift']:.1e}",
    )


def profiled(work, precision):
    """The lines of a profile: a pair of steps, and the memory of theta's."""
    (result,) = json.loads((work / f"{precision}.json").read_text())["results"]
    for found in result["rows"]:
        if found["failed"] is not None:
            yield row(found["network"], precision, "", "", "", found["failed"])
            continue
        theta = found["theta"]
        allocated = theta["weights"] + theta["gradients"] + theta["activations"]
        yield row(
            found["network"],
            precision,
            f"{median(found['pair_seconds']):.3g}",
            f"{allocated / GIGA:.2f}",
            f"{(theta['weights'] + theta['reserved']) / GIGA:.2f}",
            f"activations {theta['activations'] / GIGA:.2f}",
        )


def main():
    work, gpus = Path(sys.argv[1]), int(sys.argv[2])
    total = torch.cuda.get_device_properties(0).total_memory
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {date.today()}\n\n{HEADER}")
    for precision in ("fp32", "bf16", "fp16"):
        print(searched(work, precision, gpus, total), *profiled(work, precision), sep="\n")


if __name__ == "__main__":
    main()
