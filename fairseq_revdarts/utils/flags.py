"""The names of flags."""

from typing import Dict, Sequence

#: Flags by their place in fairseq's configuration: {"optimization": ("max_update",)}.
Flags = Dict[str, Sequence[str]]


def flag_name(field: str) -> str:
    """The flag of a field of the configuration: "--alpha-lr" for "alpha_lr"."""
    return "--" + field.replace("_", "-")
