"""Checks on the arguments of `from_pretrained`, before fairseq loads anything."""

import glob
import os
from typing import Any

from fairseq.registry import REGISTRIES


def check_hub_arguments(folder: str, data: str, **flags: Any) -> None:
    """Check the arguments of `from_pretrained`.

    Args:
        folder: the model's folder; an archive or a URL, which fairseq fetches, is not checked
        data: the dictionaries' folder, relative to `folder` if it begins with a dot
        flags: other arguments, among them "bpe" and "sentencepiece_model"

    Raises:
        ValueError: names the argument, its value and what would be right
    """
    if os.path.isfile(folder) or "://" in folder + data:
        return
    if not os.path.isdir(folder):
        raise ValueError(f"model_name_or_path {folder}: no such folder")
    dictionaries = os.path.join(folder, data) if data.startswith(".") else data
    if not glob.glob(os.path.join(glob.escape(dictionaries), "dict.*.txt")):
        raise ValueError(
            f"data_name_or_path {data}: no dict.LANGUAGE.txt in {dictionaries}; give the folder "
            "that fairseq-preprocess wrote"
        )
    bpe, known = flags.get("bpe"), REGISTRIES["bpe"]["registry"]
    if isinstance(bpe, str) and bpe not in known:
        raise ValueError(f"bpe {bpe}: unknown; it is one of {', '.join(sorted(known))}")
    model = flags.get("sentencepiece_model", os.path.join(folder, "sentencepiece.bpe.model"))
    if bpe == "sentencepiece" and not os.path.isfile(model):
        raise ValueError(f"sentencepiece_model {model}: no such file; give the one of the training")
