"""The settings of candidate operations, and the inputs that they read in addition to H."""

from dataclasses import dataclass
from typing import Any, Dict, Optional

from torch import Tensor


@dataclass(frozen=True)
class OperationSettings:
    """The settings that a candidate operation is built from.

    Args:
        channels: C, the width of one split
        encoder_channels: d, the width of the encoder's output (cross-attention reads it)
        heads: attention heads, and heads of the dynamic convolutions
        ffn_width: inner width of the feed-forward network
        causal: True in the decoder
        dropout, attention_dropout, activation_dropout: as in fairseq's transformer
    """

    channels: int
    encoder_channels: int
    heads: int
    ffn_width: int
    causal: bool
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0


@dataclass(frozen=True)
class Context:
    """The inputs that all operations of one forward call read in addition to H.

    Args:
        padding_mask: (B, T), True at padding; None without padding. A decoder needs it only for
            padding on the left: causality alone keeps padding on the right from real positions
        causal_mask: (T, T), True where a position must not look; None in the encoder
        encoder_out: (S, B, d), the encoder's output; None in the encoder
        encoder_padding_mask: (B, S), True at padding; None without padding
        incremental_state: fairseq's dict of decoding states; None for a full forward
        dropout_mask: (T, B, C), the node's own, 0 or 1 / (1 - dropout); None without dropout
    """

    padding_mask: Optional[Tensor] = None
    causal_mask: Optional[Tensor] = None
    encoder_out: Optional[Tensor] = None
    encoder_padding_mask: Optional[Tensor] = None
    incremental_state: Optional[Dict[str, Any]] = None
    dropout_mask: Optional[Tensor] = None


def zero_padding(x: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """`x` (T, B, C) with zeros where `padding_mask` (B, T) is True."""
    if padding_mask is None:
        return x
    return x.masked_fill(padding_mask.t().unsqueeze(-1), 0)
