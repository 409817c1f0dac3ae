"""The search space: which candidate operations each node chooses from, by name.

The names stand in genotype files, logs and checkpoints. What they compute is in operations.py.
Source: DARTSformer (Zhao et al. 2021, arXiv 2105.14669), search space as reported.
"""

from typing import Dict, List, Optional, Tuple

CONV_WIDTHS = (3, 5, 7, 11)
DYNAMIC_CONV_WIDTHS = (3, 7, 11, 15)
CROSS_ATTENTION = "cross_attention"
#: Candidate operations without weights: a search that ends on these alone has collapsed.
PARAMETER_FREE = ("zero", "identity")

ENCODER_CANDIDATES: Tuple[str, ...] = (
    *(f"conv_{width}" for width in CONV_WIDTHS),
    *(f"dynamic_conv_{width}" for width in DYNAMIC_CONV_WIDTHS),
    "self_attention",
    "glu",
    "ffn",
    *PARAMETER_FREE,
)
DECODER_CANDIDATES: Tuple[str, ...] = (*ENCODER_CANDIDATES, CROSS_ATTENTION)

#: Candidate operations of a searched node on each side; registry.py adds to it.
CANDIDATES: Dict[str, Tuple[str, ...]] = {
    "encoder": ENCODER_CANDIDATES,
    "decoder": DECODER_CANDIDATES,
}
#: The last split of a decoder layer is always this operation; the others are searched.
FIXED_LAST_OPERATION: Dict[str, Tuple[str, ...]] = {
    "encoder": (),
    "decoder": (CROSS_ATTENTION,),
}
POOLINGS = ("max", "avg")


def operation_names() -> List[str]:
    """The candidate operations of both sides, each once."""
    return list(dict.fromkeys(name for names in CANDIDATES.values() for name in names))


def chosen_candidates(side: str, names: Optional[str]) -> Tuple[str, ...]:
    """The candidates of `side` that a search chooses from, in the order of CANDIDATES.

    Args:
        side: "encoder" or "decoder"
        names: those of --encoder-candidates or --decoder-candidates, with commas between them; None
            for all

    Raises:
        ValueError: there is no name, or one that is not of the side
    """
    known = CANDIDATES[side]
    if names is None:
        return known
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        what = f"no {side} operation {unknown[0]!r}" if unknown else "at least one is needed"
        raise ValueError(f"--{side}-candidates {names}: {what}; they are {', '.join(known)}")
    return tuple(name for name in known if name in chosen)


def searched_splits(side: str, splits: int) -> int:
    """How many of a layer's `splits` nodes are searched on `side` ("encoder" or "decoder")."""
    return splits - len(FIXED_LAST_OPERATION[side])


def family(operation: str) -> str:
    """The family of a candidate operation, by its name; "other" if it is like none of these."""
    if operation in PARAMETER_FREE:
        return "parameter-free"
    if operation in ("glu", "ffn"):
        return "feed-forward"
    for name, kind in (("dynamic_conv_", "dynamic convolution"), ("conv_", "convolution")):
        if operation.startswith(name):
            return kind
    return "attention" if operation.endswith("attention") else "other"
