"""The settings of candidate operations, and the inputs that they read in addition to H."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

import torch
from torch import Tensor

#: Masks of self-attention (causal or not) and of cross-attention, by precision.
Masks = Dict[Tuple[str, bool, torch.dtype], Tensor]


@dataclass(frozen=True)
class OperationSettings:
    """The settings that a candidate operation is built from.

    Args:
        channels: C, the width of one split
        encoder_channels: d, the width of the encoder's output (cross-attention reads it)
        heads: attention heads, and heads of the dynamic convolutions
        ffn_width: inner width of the feed-forward network
        causal: True in the decoder
        norm: "pre" or "post": whether a LayerNorm comes before or after a candidate operation
        node_input: "normalized" or "pooled": whether candidates without a LayerNorm before them
            read H through one without weights
        dropout, attention_dropout, activation_dropout: as in fairseq's transformer
    """

    channels: int
    encoder_channels: int
    heads: int
    ffn_width: int
    causal: bool
    norm: str = "pre"
    node_input: str = "normalized"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0


@dataclass(frozen=True)
class Context:
    """The inputs that all operations of one forward call read in addition to H.

    Args:
        padding_mask: (B, T), True at padding; None without padding. A decoder needs it only for
            padding on the left: causality alone keeps padding on the right from real positions
        encoder_out: (S, B, d), the encoder's output; None in the encoder
        encoder_padding_mask: (B, S), True at padding; None without padding
        incremental_state: fairseq's dict of decoding states; None for a full forward
        dropout_mask: (T, B, C), the node's own, 0 or 1 / (1 - dropout); None without dropout
        attention_masks: those that were built for this call, which all its nodes share
    """

    padding_mask: Optional[Tensor] = None
    encoder_out: Optional[Tensor] = None
    encoder_padding_mask: Optional[Tensor] = None
    incremental_state: Optional[Dict[str, Any]] = None
    dropout_mask: Optional[Tensor] = None
    attention_masks: Masks = field(default_factory=dict, repr=False, compare=False)

    def self_attention_mask(self, h: Tensor, causal: bool) -> Optional[Tensor]:
        """What attention over `h` (T, B, C) adds to its logits, in the precision of `h`.

        0, or the least number or minus infinity where a position must not look: (B, 1, 1, T), or
        (B, 1, T, T) if it is causal. None without padding, also if it is causal: attention that is
        told so needs no mask, and has faster kernels on a GPU.
        """
        if self.padding_mask is None:
            return None
        key = ("self", causal, h.dtype)
        if key not in self.attention_masks:
            mask = _additive(self.padding_mask, h)
            if causal:
                future = torch.full((len(h), len(h)), -torch.inf, dtype=h.dtype, device=h.device)
                mask = mask + future.triu(1)
            self.attention_masks[key] = mask
        return self.attention_masks[key]

    def cross_attention_mask(self, h: Tensor) -> Optional[Tensor]:
        """As `self_attention_mask`, for attention over the encoder's output: (B, 1, 1, S)."""
        if self.encoder_padding_mask is None:
            return None
        key = ("cross", False, h.dtype)
        if key not in self.attention_masks:
            self.attention_masks[key] = _additive(self.encoder_padding_mask, h)
        return self.attention_masks[key]


def _additive(padding_mask: Tensor, h: Tensor) -> Tensor:
    """(B, 1, 1, T) from `padding_mask` (B, T), in the precision of `h`."""
    zeros = torch.zeros(padding_mask.shape, dtype=h.dtype, device=h.device)
    # Not minus infinity: where a position sees padding alone, torch 2.4 would give NaN.
    return zeros.masked_fill_(padding_mask, torch.finfo(h.dtype).min)[:, None, None]


def zero_padding(x: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """`x` (T, B, C) with zeros where `padding_mask` (B, T) is True."""
    if padding_mask is None:
        return x
    return x.masked_fill(padding_mask.t().unsqueeze(-1), 0)
