"""The candidate operations, on fairseq's own modules.

Every candidate maps H of shape (T, B, C) to (T, B, C). All but zero and identity are wrapped, as
pre-norm or, like in the paper, as post-norm:

    candidate(H) = mask * o(LayerNorm(H))            pre
    candidate(H) = LayerNorm(N + mask * o(N))        post

where N is H through a LayerNorm without weights, or H itself (`node_input`), and identity is N. The
stream grows with every layer. Attention that reads it without normalization is saturated from the
start, because its logits grow with the square of H. So all candidates read it normalized.

The dropout mask is drawn once per node and shared by its candidates: they are compared under the
same noise, and random numbers, which cost as much as a projection, are drawn once.

Padded positions never reach real ones, decoder operations are causal, and each decodes
incrementally: given an incremental state, H is one time step and o keeps the past that it needs.
"""

from functools import partial
from typing import Any, Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from fairseq.models.transformer import Linear
from fairseq.modules import FairseqDropout, LayerNorm
from fairseq.modules import MultiheadAttention as FairseqAttention
from torch import Tensor, nn

from ..registry import OPERATIONS
from ..search_space import CONV_WIDTHS, CROSS_ATTENTION, DYNAMIC_CONV_WIDTHS, PARAMETER_FREE
from .context import Context, OperationSettings
from .convolutions import Convolution, DynamicConvolution


class MultiheadAttention(FairseqAttention):
    """fairseq's multi-head attention, and `full`, which takes torch's fused kernels."""

    def full(self, h: Tensor, source: Tensor, mask: Optional[Tensor], causal: bool) -> Tensor:
        """Attention (T, B, C) of all positions in `h` (T, B, C) over `source` (S, B, ...).

        fairseq's own forward cannot say that attention is causal, and merges masks in every call.

        Args:
            h: asks
            source: is looked at
            mask: (B, 1, 1 or T, S), added to the logits; None for none
            causal: whether a position sees no later one; `mask` must say so, if there is one
        """

        def heads(x: Tensor, projection: nn.Module) -> Tensor:
            projected = projection(x).view(len(x), -1, self.num_heads, self.head_dim)
            return projected.permute(1, 2, 0, 3)

        dropout = self.dropout_module
        attended = F.scaled_dot_product_attention(
            heads(h, self.q_proj),
            heads(source, self.k_proj),
            heads(source, self.v_proj),
            mask,
            dropout.p if self.training or dropout.apply_during_inference else 0.0,
            causal and mask is None,
        )
        return self.out_proj(attended.permute(2, 0, 1, 3).flatten(2))


class SelfAttention(nn.Module):
    """Multi-head self-attention; masked in the decoder."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.causal = settings.causal
        self.attention = MultiheadAttention(
            settings.channels,
            settings.heads,
            dropout=settings.attention_dropout,
            self_attention=True,
        )

    def forward(self, h: Tensor, context: Context) -> Tensor:
        if context.incremental_state is None:
            mask = context.self_attention_mask(h, self.causal)
            return self.attention.full(h, h, mask, self.causal)
        # One step at a time there is no future to mask.
        return self.attention(
            h,
            h,
            h,
            key_padding_mask=context.padding_mask,
            incremental_state=context.incremental_state,
            need_weights=False,
        )[0]


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
        if context.incremental_state is None:
            mask = context.cross_attention_mask(h)
            return self.attention.full(h, context.encoder_out, mask, causal=False)
        return self._attend(h, context, need_weights=False)[0]

    def alignment(self, h: Tensor, context: Context, heads: Optional[int] = None) -> Tensor:
        """The attention weights (B, T, S) for `h` (T, B, C), a mean over the first `heads` heads.

        Those before dropout, in evaluation and in training.
        """
        _, weights = self._attend(h, context, need_head_weights=True)
        return weights[:heads].to(h).mean(dim=0)

    def _attend(self, h: Tensor, context: Context, **how: bool) -> Tuple[Tensor, Optional[Tensor]]:
        return self.attention(
            h,
            context.encoder_out,
            context.encoder_out,
            key_padding_mask=context.encoder_padding_mask,
            incremental_state=context.incremental_state,
            static_kv=True,  # computes the weights, which a full forward does not need
            **how,
        )


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


def as_read(h: Tensor, node_input: str) -> Tensor:
    """N (T, B, C): H through a LayerNorm without weights, or H itself if it is read "pooled"."""
    return F.layer_norm(h, h.shape[-1:]) if node_input == "normalized" else h


class Zero(nn.Module):
    """No edge: contributes nothing."""

    def __init__(self, settings: OperationSettings):
        super().__init__()

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return torch.zeros_like(h)


class Identity(nn.Module):
    """H, normalized as the other candidates read it."""

    def __init__(self, settings: OperationSettings):
        super().__init__()
        self.node_input = settings.node_input

    def forward(self, h: Tensor, context: Context) -> Tensor:
        return as_read(h, self.node_input)


class Normalized(nn.Module):
    """An operation o with its LayerNorm, before or after it.

    pre: mask * o(LayerNorm(H)). The node adds nothing but what o computes, as in RevNet.
    post: LayerNorm(N + mask * o(N)). It adds N as well (Zhao et al. 2021, as reported, with H).

    The names of the weights say which: `input_norm`, or `layer_norm`. Weights that are loaded
    decide, so a checkpoint goes on computing what it was trained to compute.
    """

    def __init__(self, operation: nn.Module, settings: OperationSettings):
        super().__init__()
        self.node_input = settings.node_input
        self._arrange(operation, LayerNorm(settings.channels), settings.norm)

    def _arrange(self, operation: nn.Module, layer_norm: nn.Module, norm: str) -> None:
        self._modules.clear()
        self.norm = norm
        if norm == "pre":
            self.input_norm, self.operation = layer_norm, operation
        else:
            self.operation, self.layer_norm = operation, layer_norm

    def forward(self, h: Tensor, context: Context) -> Tensor:
        h, mask = self._input(h), context.dropout_mask
        output = self.operation(h, context)
        if self.norm == "pre":
            return output if mask is None else output * mask
        return self.layer_norm(h + output if mask is None else torch.addcmul(h, output, mask))

    def alignment(self, h: Tensor, context: Context, heads: Optional[int] = None) -> Tensor:
        """That of cross-attention, which reads H."""
        return self.operation.alignment(self._input(h), context, heads)

    def _input(self, h: Tensor) -> Tensor:
        return self.input_norm(h) if self.norm == "pre" else as_read(h, self.node_input)

    def _load_from_state_dict(self, state_dict: Dict[str, Any], prefix: str, *args: Any) -> None:
        layer_norm = self.input_norm if self.norm == "pre" else self.layer_norm
        for norm, name in (("pre", "input_norm"), ("post", "layer_norm")):
            if f"{prefix}{name}.weight" in state_dict:
                self._arrange(self.operation, layer_norm, norm)
        super()._load_from_state_dict(state_dict, prefix, *args)


OPERATIONS.update(
    {
        **{f"conv_{width}": partial(Convolution, width) for width in CONV_WIDTHS},
        **{
            f"dynamic_conv_{width}": partial(DynamicConvolution, width)
            for width in DYNAMIC_CONV_WIDTHS
        },
        "self_attention": SelfAttention,
        CROSS_ATTENTION: CrossAttention,
        "glu": GatedLinearUnit,
        "ffn": FeedForward,
        "zero": Zero,
        "identity": Identity,
    }
)


def build_operation(name: Optional[str], settings: OperationSettings) -> nn.Module:
    """The candidate operation `name`, with its LayerNorm unless it has no weights.

    None keeps the place of one that is not searched: a module without weights, never evaluated.
    """
    if name is None:
        return nn.Module()
    operation = OPERATIONS[name](settings)
    return operation if name in PARAMETER_FREE else Normalized(operation, settings)
