"""The latency table: milliseconds of every candidate operation on the machine that will be used.

`revdarts-profile --latency FILE` measures it. It is JSON:

    {"format": "revdarts-latency", "version": 1,
     "machine": "...",                                       versions, device, threads
     "sizes": {"hidden_size": 240, ...},                     of the networks that it is valid for
     "workload": {"beam": 5, "length": 25, "tokens": 2000, "vocabulary": 8000, ...},
     "outside": {"decode": 31.0, "train": 210.0},            embeddings, output, beam search
     "layer": {"encoder": {"decode": 0.1, "train": 3.0},     a layer without what is searched
               "decoder": {...}},
     "candidates": {"encoder": {"conv_3": {"decode": 0.1, "train": 9.5}, ...},     in one layer
                    "decoder": {...}}}

"decode" is the translation of one sentence of `length` tokens with that beam; "train" the forward
and backward of a batch of `tokens` target tokens. The time of a network is the sum of its parts.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Sequence

from ..search_space import CANDIDATES
from ..utils.files import write_atomically
from ..utils.flags import flag_name

FORMAT, VERSION = "revdarts-latency", 1
#: The flags of the network that change the time of a candidate, or of what surrounds it.
SIZES = (
    *("hidden_size", "embed_dim", "ffn_embed_dim", "attention_heads"),
    *("encoder_splits", "decoder_splits"),
)
MEASURES = ("decode", "train")
#: Milliseconds, by the names in MEASURES.
Times = Dict[str, float]


@dataclass(frozen=True)
class LatencyTable:
    """The content of the file; times are milliseconds."""

    machine: str
    sizes: Dict[str, int]
    workload: Dict[str, Any]
    outside: Times
    layer: Dict[str, Times]
    candidates: Dict[str, Dict[str, Times]]

    def save(self, path: str) -> None:
        """Write the file, atomically."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_atomically(path, json.dumps(content, indent=1) + "\n")


def load_latency_table(
    path: str, network: Mapping[str, Any], operations: Mapping[str, Sequence[str]]
) -> LatencyTable:
    """Read a table that fits a network.

    Args:
        path: the file
        network: flags of the network, by their names
        operations: by side, those that the table has to have

    Raises:
        ValueError: it cannot be read, is of other sizes, or lacks an operation; names the flag
    """
    where = f"--latency-table {path}"
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if (content.pop("format"), content.pop("version")) != (FORMAT, VERSION):
            raise ValueError(f"not of format {FORMAT}, version {VERSION}")
        table = LatencyTable(**content)
        for times in _all_times(table):
            if not all(0 <= float(times[measure]) < math.inf for measure in MEASURES):
                raise ValueError("a time is negative or not finite")
        other = [name for name in SIZES if int(table.sizes[name]) != int(network[name])]
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{where}: not a table that revdarts-profile --latency FILE wrote ({error!r})"
        ) from error
    flags = {name: flag_name(name) for name in SIZES}
    if other:
        measured = ", ".join(f"{flags[name]} {table.sizes[name]}" for name in other)
        needed = " ".join(f"{flags[name]} {network[name]}" for name in SIZES)
        raise ValueError(
            f"{where}: measured with {measured}, not with the sizes of this network; measure them "
            f"with revdarts-profile --latency FILE {needed}"
        )
    for side, names in operations.items():
        missing = [name for name in names if name not in table.candidates[side]]
        if missing:
            raise ValueError(
                f"{where}: it has no time of the {side} operation {missing[0]}; measure again, or "
                f"leave it out with --{side}-candidates"
            )
    return table


def _all_times(table: LatencyTable) -> List[Times]:
    of_sides = (table.layer[side] for side in CANDIDATES)
    of_candidates = (times for side in CANDIDATES for times in table.candidates[side].values())
    return [table.outside, *of_sides, *of_candidates]
