"""The size of a fairseq transformer with as many parameters as another network."""

from typing import Tuple

#: Attention heads of that transformer.
HEADS = 4


def transformer_flags(parameters: int, vocabulary: int, layers: int, heads: int = HEADS) -> str:
    """Flags of fairseq-train for that transformer; arguments as in `transformer_widths`."""
    width, ffn_width = transformer_widths(parameters, vocabulary, layers, heads)
    return " ".join(
        f"--{side}-layers {layers} --{side}-embed-dim {width} "
        f"--{side}-ffn-embed-dim {ffn_width} --{side}-attention-heads {heads}"
        for side in ("encoder", "decoder")
    )


def transformer_widths(
    parameters: int, vocabulary: int, layers: int, heads: int = HEADS
) -> Tuple[int, int]:
    """Width and feed-forward width of a transformer of about `parameters` parameters.

    The width is the one whose feed-forward layers come closest to four times as wide; the
    feed-forward width then fits the parameters. All embeddings are shared.

    Args:
        parameters: how many it has; shared ones count once
        vocabulary: types of the joint dictionary
        layers: encoder layers, and as many decoder layers
        heads: of its attention
    """

    def ffn_width(width: int) -> float:
        attention = 4 * width * (width + 1)
        norms_and_biases = layers * 13 * width + 4 * width
        fixed = vocabulary * width + 3 * layers * attention + norms_and_biases
        return (parameters - fixed) / (2 * layers * (2 * width + 1))

    widths = range(2 * heads, 4096, 2 * heads)
    width = min(widths, key=lambda width: abs(ffn_width(width) / width - 4))
    return width, max(1, round(ffn_width(width)))
