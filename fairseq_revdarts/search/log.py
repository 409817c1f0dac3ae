"""`search.jsonl`: one object for each logged update of a search.

    {"update": 100, "loss": ..., "alpha_loss": ..., "alpha_entropy": ..., "parameter_free": ...,
     "stable_updates": ..., "living": ..., "drift": ...,
     "probabilities": {"encoder.1.1": {"conv_3": ..., ...}, ...}}

Losses are in bits per token, label smoothing included, as in fairseq's log; the entropy is in nats.
With --sentence-avg they are per sentence. alpha_loss is null if alpha did not move: in the warm-up,
once every node has one candidate left, after an overflow of its gradient in fp16, and always in
sampling and evolution. parameter_free is the share of the nodes whose most probable operation has
no weights. stable_updates is the number of alpha's updates since the most probable operation of any
node changed. living is the mean number of living candidates per node; the probability of eliminated
candidates is 0, and "eliminated" lists them by node, if there are any. drift is the last one
measured, null before the first. No number is NaN or infinite: such a loss is null.

With --cost an object also has "cost", the expected cost of the supernet in parameters or
milliseconds, and "cost_limit"; without it, neither. Candidates that are not searched are no keys.
"""

import json
import math
import os
from typing import Any, Dict, List

from ..search_space import CANDIDATES
from ..utils.files import naming, write_atomically


class SearchLog:
    """Appends to a search's log, from where its checkpoint stood.

    Args:
        path: the file
        update: the update that the search starts from; later entries of the file are dropped
    """

    def __init__(self, path: str, update: int):
        self.path = path
        lines = _lines_until(path, update) if os.path.exists(path) else []
        write_atomically(path, "".join(lines))

    def write(self, entry: Dict[str, Any]) -> None:
        """Append one object. Raises a ValueError for a number that JSON does not have."""
        line = json.dumps(entry, allow_nan=False) + "\n"
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(line)


def _lines_until(path: str, update: int) -> List[str]:
    """The file's whole lines up to `update`; a line that an interruption cut short is dropped."""
    kept = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                whole = line.endswith("\n") and json.loads(line)["update"] <= update
            except (ValueError, TypeError, KeyError):
                break
            if not whole:
                break
            kept.append(line)
    return kept


def read_search_log(path: str) -> List[Dict[str, Any]]:
    """The entries of a search's log, without a last line that is being written or was cut short.

    Raises:
        ValueError: the file cannot be read, or is not a search's log; names the line
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a search's log ({error})") from error
    entries = [_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    for number, entry in enumerate(entries, 1):
        if _candidates(entry) != _candidates(entries[0]):
            raise ValueError(f"{path}, line {number}: other nodes or operations than in line 1")
    return entries


def _entry(line: str, where: str) -> Dict[str, Any]:
    try:
        entry = json.loads(line)
        float(entry["update"])
        names = [name.split(".") for name in entry["probabilities"]]
        values = [p for row in entry["probabilities"].values() for p in row.values()]
        fits = (
            all(side in CANDIDATES and int(i) > 0 and int(k) > 0 for side, i, k in names)
            and all(entry["probabilities"].values())
            and all(math.isfinite(p) for p in values)
            and values != []
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise ValueError(
            f"{where}: not an entry of a search's log, with update and every node's probabilities"
        )
    return entry


def _candidates(entry: Dict[str, Any]) -> Dict[str, List[str]]:
    return {node: list(row) for node, row in entry["probabilities"].items()}
