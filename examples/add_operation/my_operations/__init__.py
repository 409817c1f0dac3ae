"""One more candidate operation: the feed-forward network of Primer."""

from typing import Any

from torch import Tensor, nn

from fairseq_revdarts import register_operation


@register_operation("squared_relu_ffn")
class SquaredReluFeedForward(nn.Module):
    """Linear, squared ReLU, linear (So et al. 2021, https://arxiv.org/abs/2109.08668)."""

    def __init__(self, settings: Any):
        super().__init__()
        self.inner = nn.Linear(settings.channels, settings.ffn_width)
        self.outer = nn.Linear(settings.ffn_width, settings.channels)

    def forward(self, h: Tensor, context: Any) -> Tensor:
        """From (T, B, C) to (T, B, C)."""
        return self.outer(self.inner(h).relu() ** 2)
