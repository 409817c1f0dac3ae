"""The candidate operations: one dict from name to builder, on fairseq's own modules.

Every candidate maps H of shape (T, B, C) to (T, B, C). All but zero and identity are wrapped as

    candidate(H) = LayerNorm(H + dropout(o(H)))

Padded positions never reach real ones, decoder operations are causal, and each decodes
incrementally: given an incremental state, H is one time step and o keeps what it needs of the past.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

import torch
import torch.nn.functional as F
from fairseq.incremental_decoding_utils import with_incremental_state
from fairseq.models.transformer import Linear
from fairseq.modules import FairseqDropout, LayerNorm, MultiheadAttention
from fairseq.modules.conv_tbc import ConvTBC
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from torch import Tensor, nn

from .search_space import CONV_WIDTHS, CROSS_ATTENTION, DYNAMIC_CONV_WIDTHS


@dataclass(frozen=True)
class OperationSettings:
    """What a candidate operation is built from.

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
    """What all operations of one forward call read beside H.

    Args:
        padding_mask: (B, T), True at padding; None without padding. A decoder needs it only for
            padding on the left: causality alone keeps padding on the right from real positions
        causal_mask: (T, T), True where a position must not look; None in the encoder
        encoder_out: (S, B, d), the encoder's output; None in the encoder
        encoder_padding_mask: (B, S), True at padding; None without padding
        incremental_state: fairseq's dict of decoding states; None for a full forward
    """

    padding_mask: Optional[Tensor] = None
    causal_mask: Optional[Tensor] = None
    encoder_out: Optional[Tensor] = None
    encoder_padding_mask: Optional[Tensor] = None
    incremental_state: Optional[Dict[str, Any]] = None


def zero_padding(x: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """`x` (T, B, C) with zeros where `padding_mask` (B, T) is True."""
    if padding_mask is None:
        return x
    return x.masked_fill(padding_mask.t().unsqueeze(-1), 0)


@with_incremental_state
class Convolution(ConvTBC):
    """Standard convolution of `width` over time; in the decoder it sees only the past."""

    def __init__(self, width: int, settings: OperationSettings):
        channels = settings.channels
        super().__init__(channels, channels, width)
        # ConvTBC initialises (width, in, out) as if width were a channel axis: far too small.
        nn.init.normal_(self.weight, std=(width * channels) ** -0.5)
        future = 0 if settings.causal else (width - 1) // 2
        self.past_and_future = (width - 1 - future, future)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        h = zero_padding(h, context.padding_mask)
        if context.incremental_state is None:
            h = F.pad(h, (0, 0, 0, 0, *self.past_and_future))
        else:
            h = self._extend_window(h, context.incremental_state)
        return torch.conv_tbc(h, self.weight, self.bias, 0)

    def _extend_window(self, h: Tensor, incremental_state: Dict[str, Any]) -> Tensor:
        """The last `width` time steps, (width, B, C), of which `h` (1, B, C) is the newest."""
        state = self.get_incremental_state(incremental_state, "window")
        past = (
            h.new_zeros(self.past_and_future[0], *h.shape[1:]) if state is None else state["past"]
        )
        window = torch.cat([past, h])
        self.set_incremental_state(incremental_state, "window", {"past": window[1:]})
        return window

    def reorder_incremental_state(
        self, incremental_state: Dict[str, Any], new_order: Tensor
    ) -> None:
        state = self.get_incremental_state(incremental_state, "window")
        if state is not None:
            past = state["past"].index_select(1, new_order)
            self.set_incremental_state(incremental_state, "window", {"past": past})


class DynamicConvolution(nn.Module):
    """Dynamic convolution block: a gated projection, DynamicConv over time, a projection.

    "Pay Less Attention with Lightweight and Dynamic Convolutions" (Wu et al. 2019), figure 2.
    """

    def __init__(self, width: int, settings: OperationSettings):
        super().__init__()
        channels = settings.channels
        self.input_projection = Linear(channels, 2 * channels)
        self.conv = DynamicConv1dTBC(
            channels,
            kernel_size=width,
            padding_l=width - 1 if settings.causal else width // 2,
            num_heads=settings.heads,
            weight_dropout=settings.attention_dropout,
            weight_softmax=True,
        )
        self.output_projection = Linear(channels, channels)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        h = F.glu(self.input_projection(h), dim=-1)
        h = zero_padding(h, context.padding_mask)
        h = self.conv(h, incremental_state=context.incremental_state)
        return self.output_projection(h)


class SelfAttention(nn.Module):
    """Multi-head self-attention; masked in the decoder."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.attention = MultiheadAttention(
            settings.channels,
            settings.heads,
            dropout=settings.attention_dropout,
            self_attention=True,
        )

    def forward(self, h: Tensor, context: Context) -> Tensor:
        incremental = context.incremental_state is not None
        output, _ = self.attention(
            h,
            h,
            h,
            key_padding_mask=context.padding_mask,
            # One step at a time there is no future to mask.
            attn_mask=None if incremental else context.causal_mask,
            incremental_state=context.incremental_state,
            need_weights=False,
        )
        return output


class CrossAttention(nn.Module):
    """Multi-head attention over the encoder's output (S, B, d)."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.attention = MultiheadAttention(
            settings.channels,
            settings.heads,
            kdim=settings.encoder_channels,
            vdim=settings.encoder_channels,
            dropout=settings.attention_dropout,
            encoder_decoder_attention=True,
        )

    def forward(self, h: Tensor, context: Context) -> Tensor:
        output, _ = self.attention(
            h,
            context.encoder_out,
            context.encoder_out,
            key_padding_mask=context.encoder_padding_mask,
            incremental_state=context.incremental_state,
            # In training static_kv would materialise the attention weights.
            static_kv=context.incremental_state is not None,
            need_weights=False,
        )
        return output


class GatedLinearUnit(nn.Module):
    """a * sigmoid(b), with a and b linear in H (Dauphin et al. 2017)."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.projection = Linear(settings.channels, 2 * settings.channels)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return F.glu(self.projection(h), dim=-1)


class FeedForward(nn.Module):
    """Linear, ReLU, Linear (Vaswani et al. 2017, equation 2)."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.input_projection = Linear(settings.channels, settings.ffn_width)
        self.output_projection = Linear(settings.ffn_width, settings.channels)
        self.dropout = FairseqDropout(settings.activation_dropout, module_name="FeedForward")

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return self.output_projection(self.dropout(F.relu(self.input_projection(h))))


class Zero(nn.Module):
    """No edge: contributes nothing."""

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return torch.zeros_like(h)


class Identity(nn.Module):
    """H itself."""

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return h


class Residual(nn.Module):
    """LayerNorm(H + dropout(o(H)))."""

    def __init__(self, operation: nn.Module, settings: OperationSettings):
        super().__init__()
        self.operation = operation
        self.dropout = FairseqDropout(settings.dropout, module_name="Residual")
        self.layer_norm = LayerNorm(settings.channels)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return self.layer_norm(h + self.dropout(self.operation(h, context)))


Builder = Callable[[OperationSettings], nn.Module]


def _convolution(width: int) -> Builder:
    return lambda settings: Residual(Convolution(width, settings), settings)


def _dynamic_convolution(width: int) -> Builder:
    return lambda settings: Residual(DynamicConvolution(width, settings), settings)


#: From a candidate operation's name to what builds it.
OPERATIONS: Dict[str, Builder] = {
    **{f"conv_{width}": _convolution(width) for width in CONV_WIDTHS},
    **{f"dynamic_conv_{width}": _dynamic_convolution(width) for width in DYNAMIC_CONV_WIDTHS},
    "self_attention": lambda settings: Residual(SelfAttention(settings), settings),
    CROSS_ATTENTION: lambda settings: Residual(CrossAttention(settings), settings),
    "glu": lambda settings: Residual(GatedLinearUnit(settings), settings),
    "ffn": lambda settings: Residual(FeedForward(settings), settings),
    "zero": lambda settings: Zero(),
    "identity": lambda settings: Identity(),
}
