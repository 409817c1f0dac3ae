"""Convolutions over time: standard and dynamic, in training and one step at a time."""

import math
from typing import Any, Dict

import torch
import torch.nn.functional as F
from fairseq.incremental_decoding_utils import with_incremental_state
from fairseq.models.transformer import Linear
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from .context import Context, OperationSettings, zero_padding


@with_incremental_state
class Window(nn.Module):
    """The window of a convolution over time, and its state in incremental decoding.

    Args:
        width: time steps that one output sees
        causal: whether all of them are of the past
    """

    def __init__(self, width: int, causal: bool):
        super().__init__()
        future = 0 if causal else (width - 1) // 2
        self.past_and_future = (width - 1 - future, future)

    def extended(self, h: Tensor, context: Context) -> Tensor:
        """`h` (T, B, C), extended by width - 1 time steps: zeros, or the past in incremental
        decoding. Returns (T + width - 1, B, C)."""
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


class Convolution(Window):
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


class DynamicConvolution(Window):
    """Dynamic convolution block: a gated projection, a dynamic convolution, a projection.

    "Pay Less Attention with Lightweight and Dynamic Convolutions" (Wu et al. 2019), figure 2 and
    equation 4. A head's kernels of one time step, softmax over `width`, are a row of a band matrix;
    the band of each block of at most `BLOCK` time steps is multiplied with the inputs in reach. So
    the bands hold at most heads x (BLOCK + width) numbers per token, however long the sentence.
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
        kernels = self.kernel_projection(h)
        if context.incremental_state is not None:
            return self.output_projection(self._one_step(kernels, self.extended(h, context)))
        steps = -(-len(h) // -(-len(h) // self.BLOCK))  # a block's, in blocks as equal as can be
        blocks = [
            self._convolve(block, h, start - self.past_and_future[0])
            for start, block in zip(range(0, len(h), steps), kernels.split(steps))
        ]
        return self.output_projection(torch.cat(blocks) if len(blocks) > 1 else blocks[0])

    def _one_step(self, kernels: Tensor, window: Tensor) -> Tensor:
        """(1, B, C) from the kernels' logits (1, B, heads * width) and the inputs (width, B, C).

        A product and a sum: of one row per head, matrix products are slower.
        """
        kernels = self.dropout(kernels.view(-1, self.width).t().softmax(dim=0)).unsqueeze(-1)
        heads = window.view(self.width, len(kernels[0]), -1)
        return (kernels * heads).sum(dim=0).view_as(window[:1])

    def _convolve(self, kernels: Tensor, seen: Tensor, first: int) -> Tensor:
        """A block's output (T, B, C).

        Args:
            kernels: (T, B, heads * width), their logits
            seen: (S, B, C), all inputs
            first: of the inputs that the block's first kernel takes; those before 0 and from S on
                are zeros, which the band leaves out
        """
        steps, batch, _ = kernels.shape
        columns = steps + self.width - 1
        band = kernels.new_full((batch * self.heads, steps, columns), -math.inf)
        # Row t of the band begins at column t.
        rows = band.as_strided((len(band), steps, self.width), (steps * columns, columns + 1, 1))
        rows.copy_(kernels.view(steps, -1, self.width).transpose(0, 1))
        band = self.dropout(band.softmax(dim=-1))[:, :, max(-first, 0) : len(seen) - first]
        if first > 0 or first + columns < len(seen):  # a slice of all costs a copy, backwards
            seen = seen[max(first, 0) : first + columns]
        heads = seen.view(len(seen), len(band), -1).transpose(0, 1)
        return torch.bmm(band, heads).transpose(0, 1).reshape(steps, batch, -1)
