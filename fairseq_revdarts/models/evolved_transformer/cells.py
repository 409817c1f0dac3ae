"""The cells of the Evolved Transformer, from the package's operations and convolutions over time.

"The Evolved Transformer" (So, Liang and Le 2019, arXiv 1901.11117), figure 3, with the details of
the authors' implementation (tensor2tensor, models/evolved_transformer.py): LayerNorm before each
sublayer and between the halves of each branched convolution, dropout after every branch.
"""

from dataclasses import replace
from typing import Any, Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from fairseq.models.transformer import Linear
from fairseq.modules import FairseqDropout, LayerNorm
from torch import Tensor, nn

from ...modules.context import Context, OperationSettings, zero_padding
from ...modules.convolutions import Window
from ...modules.operations import CrossAttention, FeedForward, GatedLinearUnit, SelfAttention

#: The decoder's first self-attention has at least as many heads.
WIDE_ATTENTION_HEADS = 16


class EvolvedEncoderCell(nn.Module):
    """Gated linear unit, branched convolutions, self-attention, feed-forward network."""

    #: fairseq 0.12.2 asks its encoder's layers whether they have a fast path.
    load_to_BT = False  # noqa: N815

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.gated_linear_unit = Sublayer(settings, GatedLinearUnit(settings))
        self.convolutions = Sublayer(settings, EncoderConvolutions(settings))
        self.self_attention = Sublayer(settings, SelfAttention(settings))
        self.feed_forward = Sublayer(settings, FeedForward(settings))

    def forward(self, x: Tensor, encoder_padding_mask: Optional[Tensor] = None) -> Tensor:
        """`x` (S, B, d), as fairseq's encoder calls its layers; the mask is (B, S)."""
        context = Context(padding_mask=encoder_padding_mask)
        for sublayer in self.children():
            x = sublayer(x, context)
        return x

    def upgrade_state_dict_named(self, state_dict: Dict[str, Any], name: str) -> None:
        """fairseq's encoder asks for it; there are no older checkpoints."""


class EvolvedDecoderCell(nn.Module):
    """Self-attention next to cross-attention, branched convolutions, a Transformer layer."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        wide = replace(settings, heads=max(WIDE_ATTENTION_HEADS, settings.heads))
        self.attentions = Sublayer(settings, SelfAttention(wide), CrossAttention(settings))
        self.convolutions = Sublayer(settings, DecoderConvolutions(settings))
        self.self_attention = Sublayer(settings, SelfAttention(settings))
        self.cross_attention = Sublayer(settings, CrossAttention(settings))
        self.feed_forward = Sublayer(settings, SwishFeedForward(settings))

    def forward(
        self,
        x: Tensor,
        encoder_out: Optional[Tensor],
        encoder_padding_mask: Optional[Tensor],
        incremental_state: Optional[Dict[str, Any]],
        self_attn_padding_mask: Optional[Tensor] = None,
        **unused: Any,
    ) -> Tuple[Tensor, None, None]:
        """`x` (T, B, d), as fairseq's decoder calls its layers; it asks elsewhere for attention."""
        context = Context(
            padding_mask=self_attn_padding_mask,
            encoder_out=encoder_out,
            encoder_padding_mask=encoder_padding_mask,
            incremental_state=incremental_state,
        )
        for sublayer in self.children():
            x = sublayer(x, context)
        return x, None, None


class Sublayer(nn.Module):
    """x plus dropout(o(LayerNorm(x))) of each of `operations`."""

    def __init__(self, settings: OperationSettings, *operations: nn.Module):
        super().__init__()
        self.layer_norm = LayerNorm(settings.channels)
        self.operations = nn.ModuleList(operations)
        self.dropout = FairseqDropout(settings.dropout, module_name="Sublayer")

    def forward(self, x: Tensor, context: Context) -> Tensor:
        h = self.layer_norm(x)
        for operation in self.operations:
            x = x + self.dropout(operation(h, context))
        return x


class EncoderConvolutions(nn.Module):
    """A dense layer to 4d next to a convolution to d/2, then a separable one to d/2."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        channels = settings.channels
        self.dense = Linear(channels, 4 * channels)
        self.convolution = TimeConvolution(channels, channels // 2, 3, causal=False)
        self.dropout = FairseqDropout(settings.dropout, module_name="EncoderConvolutions")
        self.layer_norm = LayerNorm(4 * channels)
        self.separable = SeparableConvolution(4 * channels, channels // 2, 9, causal=False)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        wide = self.dropout(F.relu(self.dense(h)))
        narrow = self.dropout(F.relu(self.convolution(h, context)))
        output = self.separable(self.layer_norm(add_narrow(wide, narrow)), context)
        return add_narrow(torch.zeros_like(h), output)


class DecoderConvolutions(nn.Module):
    """Separable convolutions to 2d and to d/2 side by side, then one to d; all causal."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        channels = settings.channels
        self.wide = SeparableConvolution(channels, 2 * channels, 11, causal=True)
        self.narrow = SeparableConvolution(channels, channels // 2, 7, causal=True)
        self.dropout = FairseqDropout(settings.dropout, module_name="DecoderConvolutions")
        self.layer_norm = LayerNorm(2 * channels)
        self.output = SeparableConvolution(2 * channels, channels, 7, causal=True)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        wide = self.dropout(F.relu(self.wide(h, context)))
        narrow = self.dropout(self.narrow(h, context))
        return self.output(self.layer_norm(add_narrow(wide, narrow)), context)


def add_narrow(wide: Tensor, narrow: Tensor) -> Tensor:
    """`narrow` added to the first channels of `wide`."""
    return wide + F.pad(narrow, (0, wide.size(-1) - narrow.size(-1)))


class SwishFeedForward(FeedForward):
    """Linear, swish (Ramachandran et al. 2017), LayerNorm, Linear."""

    def __init__(self, settings: OperationSettings):
        super().__init__(settings)
        self.layer_norm = LayerNorm(settings.ffn_width)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        h = self.dropout(F.silu(self.input_projection(h)))
        return self.output_projection(self.layer_norm(h))


class SeparableConvolution(nn.Module):
    """A convolution over time of each channel alone, then a linear layer (Chollet 2017)."""

    def __init__(self, inputs: int, outputs: int, width: int, causal: bool):
        super().__init__()
        self.depthwise = TimeConvolution(inputs, inputs, width, causal, groups=inputs, bias=False)
        self.pointwise = Linear(inputs, outputs)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return self.pointwise(self.depthwise(h, context))


class TimeConvolution(Window):
    """Convolution over time of (T, B, inputs) to (T, B, outputs), from real positions only."""

    def __init__(self, inputs: int, outputs: int, width: int, causal: bool, **more: Any):
        super().__init__(width, causal)
        self.convolution = nn.Conv1d(inputs, outputs, width, **more)
        weight, bias = self.convolution.weight, self.convolution.bias
        nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        if bias is not None:
            nn.init.zeros_(bias)

    def forward(self, h: Tensor, context: Context) -> Tensor:
        """With an incremental state `h` is the newest time step, (1, B, inputs)."""
        h = self.extended(zero_padding(h, context.padding_mask), context)
        return self.convolution(h.permute(1, 2, 0)).permute(2, 0, 1)
