"""The candidate operations: one dict from name to builder, on fairseq's own modules.

Every candidate maps H of shape (T, B, C) to (T, B, C). All but zero and identity are wrapped as

    candidate(H) = LayerNorm(H + mask * o(H))

where the dropout mask is drawn once a node and shared by its candidates: they are compared under
the same noise, and random numbers, which cost as much as a projection, are drawn once.

Padded positions never reach real ones, decoder operations are causal, and each decodes
incrementally: given an incremental state, H is one time step and o keeps what it needs of the past.
"""

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

import torch
import torch.nn.functional as F
from fairseq.incremental_decoding_utils import with_incremental_state
from fairseq.models.transformer import Linear
from fairseq.modules import FairseqDropout, LayerNorm, MultiheadAttention
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


@with_incremental_state
class _Window(nn.Module):
    """What the convolutions over time share: how far they see, and what they keep in decoding.

    Args:
        width: time steps that one output sees
        causal: whether all of them are of the past
    """

    def __init__(self, width: int, causal: bool):
        super().__init__()
        future = 0 if causal else (width - 1) // 2
        self.past_and_future = (width - 1 - future, future)

    def extended(self, h: Tensor, context: Context) -> Tensor:
        """`h` (T, B, C) with the width - 1 time steps that its ends see beside it: zeros, or, in
        incremental decoding, the past; (T + width - 1, B, C)."""
        if context.incremental_state is None:
            return F.pad(h, (0, 0, 0, 0, *self.past_and_future))
        state = self.get_incremental_state(context.incremental_state, "window")
        past = (
            h.new_zeros(self.past_and_future[0], *h.shape[1:]) if state is None else state["past"]
        )
        window = torch.cat([past, h])
        self.set_incremental_state(context.incremental_state, "window", {"past": window[1:]})
        return window

    def reorder_incremental_state(
        self, incremental_state: Dict[str, Any], new_order: Tensor
    ) -> None:
        state = self.get_incremental_state(incremental_state, "window")
        if state is not None:
            past = state["past"].index_select(1, new_order)
            self.set_incremental_state(incremental_state, "window", {"past": past})


class Convolution(_Window):
    """Standard convolution of `width` over time; in the decoder it sees only the past.

    H of shape (T, B, C) is, read as an image (1, C, T, B), in the layout "channels last": so
    torch's 2D convolution with a kernel of (width, 1) takes it without a copy, and its backward
    computes no more gradients than are needed.
    """

    def __init__(self, width: int, settings: OperationSettings):
        super().__init__(width, settings.causal)
        channels = settings.channels
        self.weight = nn.Parameter(torch.empty(channels, width, channels))  # (out, width, in)
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=(width * channels) ** -0.5)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        h = self.extended(zero_padding(h, context.padding_mask), context)
        image = h.permute(2, 0, 1).unsqueeze(0)
        kernel = self.weight.transpose(1, 2).unsqueeze(-1)
        return F.conv2d(image, kernel, self.bias).squeeze(0).permute(1, 2, 0)


class DynamicConvolution(_Window):
    """Dynamic convolution block: a gated projection, a dynamic convolution, a projection.

    "Pay Less Attention with Lightweight and Dynamic Convolutions" (Wu et al. 2019), figure 2 and
    equation 4. A head's kernels of one time step, softmax over `width`, are a row of a band matrix;
    the band of each block of at most `BLOCK` time steps is multiplied with what they see. So no
    tensor is larger than heads x (BLOCK + width) numbers a token, however long the sentence.
    """

    BLOCK = 64

    def __init__(self, width: int, settings: OperationSettings):
        super().__init__(width, settings.causal)
        channels = settings.channels
        self.width, self.heads = width, settings.heads
        self.input_projection = Linear(channels, 2 * channels)
        self.kernel_projection = Linear(channels, settings.heads * width, bias=False)
        self.output_projection = Linear(channels, channels)
        self.dropout = FairseqDropout(settings.attention_dropout, module_name="DynamicConvolution")

    def forward(self, h: Tensor, context: Context) -> Tensor:
        h = F.glu(self.input_projection(h), dim=-1)
        h = zero_padding(h, context.padding_mask)
        kernels, seen = self.kernel_projection(h), self.extended(h, context)
        steps = -(-len(h) // -(-len(h) // self.BLOCK))  # a block's, in blocks as equal as can be
        blocks = [
            self._convolve(block, seen[start : start + len(block) + self.width - 1])
            for start, block in zip(range(0, len(h), steps), kernels.split(steps))
        ]
        return self.output_projection(torch.cat(blocks))

    def _convolve(self, kernels: Tensor, seen: Tensor) -> Tensor:
        """(T, B, C) from the kernels' logits (T, B, heads * width) and (T + width - 1, B, C)."""
        (steps, batch, _), channels = kernels.shape, seen.size(-1)
        columns = steps + self.width - 1
        band = kernels.new_full((batch * self.heads, steps, columns), -math.inf)
        # Row t of the band begins at column t.
        rows = band.as_strided((len(band), steps, self.width), (steps * columns, columns + 1, 1))
        rows.copy_(kernels.view(steps, -1, self.width).transpose(0, 1))
        band = self.dropout(band.softmax(dim=-1))
        heads = seen.view(columns, len(band), -1).transpose(0, 1)
        return torch.bmm(band, heads).transpose(0, 1).reshape(steps, batch, channels)


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
    """LayerNorm(H + mask * o(H))."""

    def __init__(self, operation: nn.Module, settings: OperationSettings):
        super().__init__()
        self.operation = operation
        self.layer_norm = LayerNorm(settings.channels)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        output, mask = self.operation(h, context), context.dropout_mask
        return self.layer_norm(h + output if mask is None else torch.addcmul(h, output, mask))


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
