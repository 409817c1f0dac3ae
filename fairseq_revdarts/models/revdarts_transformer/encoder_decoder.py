"""Encoder and decoder: factorised embeddings, a reversible stack, a final LayerNorm.

Supernet and derived network are built from the same layers and nodes; a derived network's nodes
hold one candidate operation each, a supernet's hold all of them and mix the active ones.
"""

import math
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder, FairseqIncrementalDecoder
from fairseq.models.transformer import Linear
from fairseq.modules import FairseqDropout, LayerNorm, PositionalEmbedding
from torch import Tensor, nn

from ...modules.alignment import AligningDecoder
from ...modules.context import Context, OperationSettings
from ...modules.mixture import Mixture
from ...modules.reversible_layer import ReversibleLayer
from ...modules.reversible_stack import ReversibleStack
from .config import NetworkShape, RevDartsTransformerConfig

#: Gives the active candidates of a stack's next call, or None in a derived network.
MixtureOfCall = Callable[[], Optional[Mixture]]


def build_stack(side: str, cfg: RevDartsTransformerConfig, shape: NetworkShape) -> ReversibleStack:
    """The reversible layers of "encoder" or "decoder"."""
    settings = OperationSettings(
        channels=cfg.hidden_size // shape.splits(side),
        encoder_channels=cfg.hidden_size,
        heads=cfg.attention_heads,
        ffn_width=cfg.ffn_embed_dim,
        causal=side == "decoder",
        norm=str(cfg.operation_norm),
        node_input=str(cfg.node_input),
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.activation_dropout,
    )
    cell = shape.operations[side]
    layers = [
        ReversibleLayer(
            number,
            len(cell),
            cell[number % len(cell)],
            shape.pooling,
            settings,
        )
        for number in range(getattr(cfg, f"{side}_layers"))
    ]
    return ReversibleStack(
        layers, str(cfg.backprop or ("reconstruct" if shape.searched else "store"))
    )


class StreamInput(nn.Module):
    """Tokens (B, T) to the stack's input (T, B, d): factorised embeddings plus positions.

    Args:
        cfg: widths and dropout
        embed_tokens: the |V| x e embeddings
        max_positions: longest input, in tokens
    """

    def __init__(
        self, cfg: RevDartsTransformerConfig, embed_tokens: nn.Embedding, max_positions: int
    ):
        super().__init__()
        self.embed_tokens = embed_tokens
        self.scale = math.sqrt(cfg.embed_dim)
        self.projection = Linear(cfg.embed_dim, cfg.hidden_size, bias=False)
        self.positions = PositionalEmbedding(
            max_positions, cfg.hidden_size, embed_tokens.padding_idx, learned=False
        )
        self.dropout = FairseqDropout(cfg.dropout, module_name="StreamInput")

    def forward(self, tokens: Tensor, incremental_state: Optional[Dict[str, Any]] = None) -> Tensor:
        """(T, B, d); with an incremental state only the last position, (1, B, d)."""
        positions = self.positions(tokens, incremental_state=incremental_state)
        if incremental_state is not None:
            tokens = tokens[:, -1:]
        x = self.projection(self.scale * self.embed_tokens(tokens)) + positions
        # Shared with the output projection, padding's embedding does not stay zero.
        x = x.masked_fill(tokens.eq(self.embed_tokens.padding_idx).unsqueeze(-1), 0)
        return self.dropout(x).transpose(0, 1)


class RevDartsEncoder(FairseqEncoder):
    """Embeddings, a reversible stack, a final LayerNorm."""

    def __init__(
        self,
        cfg: RevDartsTransformerConfig,
        dictionary: Dictionary,
        embed_tokens: nn.Embedding,
        shape: NetworkShape,
        mixture: MixtureOfCall,
    ):
        super().__init__(dictionary)
        self.input = StreamInput(cfg, embed_tokens, cfg.max_source_positions)
        self.stack = build_stack("encoder", cfg, shape)
        self.layer_norm = LayerNorm(cfg.hidden_size)
        self.mixture = mixture
        self.max_source_positions = cfg.max_source_positions

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        source_padded: Optional[bool] = None,
        **unused: Any,
    ) -> Dict[str, List[Tensor]]:
        """Encode `src_tokens` (B, S).

        Args:
            src_tokens: (B, S)
            src_lengths: not used
            source_padded: whether there is padding, if that is known. Otherwise it is looked for,
                and a GPU is waited for, as in fairseq's own encoder

        Returns:
            fairseq's dict: "encoder_out" [(S, B, d)] and "encoder_padding_mask" [(B, S)], an
            empty list without padding
        """
        padding_mask = src_tokens.eq(self.input.embed_tokens.padding_idx)
        if source_padded is None:
            source_padded = bool(padding_mask.any())
        masks = [padding_mask] if source_padded else []
        context = Context(padding_mask=masks[0] if masks else None)
        x = self.stack(self.input(src_tokens), context, self.mixture())
        return {"encoder_out": [self.layer_norm(x)], "encoder_padding_mask": masks}

    def reorder_encoder_out(
        self, encoder_out: Dict[str, List[Tensor]], new_order: Tensor
    ) -> Dict[str, List[Tensor]]:
        """The encoder's output with its sentences in the order `new_order` (B,)."""
        batch_axis = {"encoder_out": 1, "encoder_padding_mask": 0}
        return {
            name: [tensor.index_select(batch_axis[name], new_order) for tensor in tensors]
            for name, tensors in encoder_out.items()
        }

    def max_positions(self) -> int:
        """Longest source sentence, in tokens."""
        return self.max_source_positions


class RevDartsDecoder(AligningDecoder, FairseqIncrementalDecoder):
    """Embeddings, a reversible stack, a final LayerNorm, and the factorised output projection."""

    def __init__(
        self,
        cfg: RevDartsTransformerConfig,
        dictionary: Dictionary,
        embed_tokens: nn.Embedding,
        shape: NetworkShape,
        mixture: MixtureOfCall,
    ):
        super().__init__(dictionary)
        self.input = StreamInput(cfg, embed_tokens, cfg.max_target_positions)
        self.stack = build_stack("decoder", cfg, shape)
        self.layer_norm = LayerNorm(cfg.hidden_size)
        self.bottleneck = Linear(cfg.hidden_size, cfg.embed_dim, bias=False)
        self.output_projection = nn.Linear(cfg.embed_dim, len(dictionary), bias=False)
        if cfg.share_decoder_input_output_embed or cfg.share_all_embeddings:
            self.output_projection.weight = embed_tokens.weight
        else:
            nn.init.normal_(self.output_projection.weight, std=cfg.embed_dim**-0.5)
        self.mixture = mixture
        self.max_target_positions = cfg.max_target_positions

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Optional[Dict[str, List[Tensor]]] = None,
        incremental_state: Optional[Dict[str, Any]] = None,
        features_only: bool = False,
        **more: Any,
    ) -> Tuple[Tensor, Dict[str, Any]]:
        """Logits (B, T, |V|), or with `features_only` features (B, T, d), for teacher forcing.

        With an incremental state, T is 1: the step after the last of `prev_output_tokens` (B, T).
        The other arguments are those of `extract_features`.
        """
        x, extra = self.extract_features(prev_output_tokens, encoder_out, incremental_state, **more)
        return (x if features_only else self.output_layer(x)), extra

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Optional[Dict[str, List[Tensor]]] = None,
        incremental_state: Optional[Dict[str, Any]] = None,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
        target_padded_left: Optional[bool] = None,
        **unused: Any,
    ) -> Tuple[Tensor, Dict[str, Any]]:
        """Features (B, T, d) before the output projection, and {"attn": [(B, T, S)]}.

        The attention is that of the last layer's last node, a mean over its first `alignment_heads`
        heads (all of them by default). It is computed when it is read, and None in decoding without
        --print-alignment. `target_padded_left` is whether there is padding on the left, if that is
        known.

        Raises:
            ValueError: `alignment_layer` is not the last layer
        """
        last = len(self.stack.layers) - 1
        if alignment_layer not in (None, last):
            raise ValueError(
                f"alignment_layer {alignment_layer}: only the last one, {last}, is given"
            )
        x = self.input(prev_output_tokens, incremental_state)
        context = self._context(
            prev_output_tokens, encoder_out, incremental_state, target_padded_left
        )
        stream = self.stack(x, context, self.mixture())
        attention = self.alignment_or_none(
            incremental_state, partial(self._alignment, stream, context, alignment_heads)
        )
        return self.layer_norm(stream).transpose(0, 1), {"attn": attention}

    def output_layer(self, features: Tensor, **unused: Any) -> Tensor:
        """Logits (..., |V|) of features (..., d)."""
        return self.output_projection(self.bottleneck(features))

    def max_positions(self) -> int:
        """Longest target sentence, in tokens."""
        return self.max_target_positions

    def _alignment(self, stream: Tensor, context: Context, heads: Optional[int]) -> Tensor:
        """(B, T, S) from the stack's output (T, B, d): the last node has read all other parts."""
        layer = self.stack.layers[-1]
        h = layer.pool(stream.chunk(self.stack.splits, dim=-1)[:-1])
        return layer.nodes[-1].candidates[0].alignment(h, context, heads)

    def _context(
        self,
        tokens: Tensor,
        encoder_out: Dict[str, List[Tensor]],
        incremental_state: Optional[Dict[str, Any]],
        padded_left: Optional[bool],
    ) -> Context:
        padding_mask = None
        if incremental_state is None:
            is_padding = tokens.eq(self.input.embed_tokens.padding_idx)
            if padded_left is None:
                padded_left = bool(is_padding[:, 0].any())
            if padded_left:
                padding_mask = is_padding
        encoder_mask = encoder_out["encoder_padding_mask"]
        return Context(
            padding_mask=padding_mask,
            encoder_out=encoder_out["encoder_out"][0],
            encoder_padding_mask=encoder_mask[0] if encoder_mask else None,
            incremental_state=incremental_state,
        )
