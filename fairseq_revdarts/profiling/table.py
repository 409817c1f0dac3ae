"""The measurements of `compare` as text of at most 100 columns."""

from statistics import median
from typing import Any, Callable, Dict, List, Optional

from .compare import Row

MEGA, GIGA = 1e6, 1e9
ADAM_MOMENTS = 2
STEPS = ("theta", "alpha")
#: The row with which the others are compared.
REFERENCE = "store"
LEGEND = f"""\
MB      peak of the activations in a step of theta or alpha, weights and gradients not counted
later   theta's in a later micro-batch of an update (--update-freq), added to earlier gradients
top MB  the same as the system sees it: the peak resident size of a process that takes the steps
GPU MB  the same as nvidia-smi sees it: what the allocator of a GPU takes in a step
s       seconds of forward and backward, median [least-most] of the runs; pair: theta and alpha
/{REFERENCE}  as a multiple of {REFERENCE}: memory of the step that needs most, and time"""


def reserved(row: Row) -> Optional[int]:
    """Most bytes that the allocator of a GPU took in a step; None on a CPU."""
    return max(
        (row[step]["reserved"] for step in STEPS if "reserved" in row.get(step, ())), default=None
    )


#: Columns of what a device gives a process, where it is known.
OF_THE_DEVICE: Dict[str, Callable[[Row], Optional[int]]] = {
    "top MB": lambda row: row.get("resident"),
    "GPU MB": reserved,
}


def describe(rows: List[Row], memory: Optional[float]) -> str:
    """All that was measured: sizes that the rows have in common, single figures, the table.

    Args:
        rows: of `compare`
        memory: of a device in GB, for a column that tells which rows fit; or None
    """
    done = [row for row in rows if row["failed"] is None]
    lines = [", ".join(_size(done, part) for part in ("weights", "gradients"))] if done else []
    lines += [
        "reconstruction drift: encoder {:.1e}, decoder {:.1e}".format(*row["drift"])
        for row in done
        if "drift" in row
    ]
    speeds = [
        f"{row['network']} {_spread(row['generated_a_second'])}"
        for row in done
        if "generated_a_second" in row
    ]
    lines += [f"beam search, tokens per second: {', '.join(speeds)}"] if speeds else []
    return "\n".join([*lines, table(rows, memory)])


def table(rows: List[Row], memory: Optional[float]) -> str:
    """A line for each row, with its ratios to `REFERENCE`; arguments as in `describe`."""
    done = [row for row in rows if row["failed"] is None]
    steps = [step for step in STEPS if any(step in row for row in done)]
    seen = [(name, get) for name, get in OF_THE_DEVICE.items() if any(map(get, done))]
    time = "pair" if "alpha" in steps else "theta"
    reference = next((row for row in done if row["network"] == REFERENCE), None)

    def seconds(row: Row) -> float:
        return median(row[f"{time}_seconds"])

    def cells(row: Row) -> List[str]:
        if row["failed"] is not None:
            return [row["network"], row["failed"]]
        return [
            row["network"],
            *(_megabytes(used) for used in peaks(row)),
            *(_megabytes(get(row)) if get(row) else "-" for _, get in seen),
            _ratio(activations, row, reference),
            _spread(row[f"{time}_seconds"]),
            _ratio(seconds, row, reference),
            *([_fits(row, memory)] if memory else []),
        ]

    columns = ["theta MB", "later", "alpha MB"][: len(steps) + 1] if steps else []
    header = ["network", *columns, *(name for name, _ in seen), f"/{REFERENCE}"]
    header += [f"{time} s", f"/{REFERENCE}", *([f"fits {memory:g} GB"] if memory else [])]
    return _align([header, *map(cells, rows)])


def largest(results: List[Dict[str, Any]], swept: str, memory: float) -> str:
    """For each row the largest swept value that fits.

    Args:
        results: "rows" and "settings" of each value
        swept: the setting
        memory: of the device, in GB
    """
    lines = [f"largest {swept.replace('_', ' ')} of those swept that fits {memory:g} GB"]
    for index, row in enumerate(results[0]["rows"]):
        fitting = [
            result["settings"][swept]
            for result in results
            if result["rows"][index]["failed"] is None
            and _fits(result["rows"][index], memory) == "yes"
        ]
        lines.append(f"{row['network']:28}{max(fitting, default='none')}")
    return "\n".join(lines)


def peaks(row: Row) -> List[int]:
    """Bytes of activations: in theta's first micro-batch, in a later one, in alpha's step."""
    of_alpha = [row["alpha"]["activations"]] if "alpha" in row else []
    return [row["theta"]["activations"], row["theta"]["later_activations"], *of_alpha]


def activations(row: Row) -> int:
    """Bytes of the step that needs most."""
    return max(peaks(row))


def _fits(row: Row, memory: float) -> str:
    """Whether weights, their gradients, the two moments of Adam and the activations fit."""
    theta = row["theta"]
    total = theta["weights"] * (1 + ADAM_MOMENTS) + theta["gradients"] + activations(row)
    return "yes" if total <= memory * GIGA else "no"


def _size(done: List[Row], part: str) -> str:
    """Of the weights or their gradients: the first row, then the rows that differ from it."""
    sizes = {row["network"]: f"{row['theta'][part] / MEGA:.1f} MB" for row in done}
    first = next(iter(sizes.values()))
    others = [f"{name}: {size}" for name, size in sizes.items() if size != first]
    return f"{part} {first}" + (f" ({'; '.join(others)})" if others else "")


def _ratio(figure: Callable[[Row], float], row: Row, reference: Optional[Row]) -> str:
    return "-" if reference is None else f"{figure(row) / figure(reference):.3g}"


def _spread(values: List[float]) -> str:
    return f"{_number(median(values))} [{_number(min(values))}-{_number(max(values))}]"


def _megabytes(size: int) -> str:
    return f"{size / MEGA:.1f}" if size < GIGA else f"{size / MEGA:.0f}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _align(lines: List[List[str]]) -> str:
    """Columns of numbers under the first line; a line with fewer cells overflows its last one."""
    whole = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(map(len, column)) for column in zip(*whole)]
    names = max(len(line[0]) for line in lines)
    return "\n".join(
        line[0].ljust(names)
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:]))
        for line in lines
    )
