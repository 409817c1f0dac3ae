"""`search.jsonl`: one object for each logged update of a search.

    {"update": 100, "loss": ..., "alpha_loss": ..., "alpha_entropy": ..., "drift": ...,
     "probabilities": {"encoder.1.1": {"conv_3": ..., ...}, ...}}

Losses are in bits a token, as in fairseq's log, and the entropy in nats. alpha_loss is null before
--alpha-start; drift is the last one measured, null before the first.
"""

import json
import os
from typing import Any, Dict, List

from .files import naming, write_atomically


class SearchLog:
    """Appends to a search's log, from where its checkpoint stood.

    Args:
        path: the file
        update: the update that the search starts from; what the file says of later ones is dropped
    """

    def __init__(self, path: str, update: int):
        self.path = path
        lines = _lines_until(path, update) if os.path.exists(path) else []
        write_atomically(path, "".join(lines))

    def write(self, entry: Dict[str, Any]) -> None:
        """Append one object."""
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


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
