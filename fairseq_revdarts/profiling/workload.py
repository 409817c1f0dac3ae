"""What a profile computes on: networks, a batch of random sentences, and its loss."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerConfig, TransformerModelBase

from ..criterions.reversible_search import ReversibleSearchCriterion
from ..models.revdarts_transformer.config import RevDartsTransformerConfig
from ..models.revdarts_transformer.model import RevDartsTransformerModel
from .transformer_size import transformer_widths

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Workload:
    """The common ground of all networks in one profile.

    Args:
        tokens: target tokens per batch
        length: tokens per sentence
        vocabulary: types in the joint dictionary
        precision: "fp32", "bf16" or "fp16", of weights and activations
        device: "cpu" or "cuda"
        seed: of weights and data
        searches: whether the loss is that of a search; otherwise that of trainings
    """

    tokens: int
    length: int
    vocabulary: int
    precision: str
    device: str
    seed: int
    searches: bool = True

    @property
    def positions(self) -> int:
        """Longest sentence: in generation, begin and end of sentence are added."""
        return self.length + 2

    def task(self) -> SimpleNamespace:
        """A task with nothing but its dictionaries."""
        symbols = joint_dictionary(self.vocabulary)
        return SimpleNamespace(
            source_dictionary=symbols, target_dictionary=symbols, max_positions=self.positions
        )

    def batch(self) -> Dict[str, Any]:
        """A batch of random sentences of one length."""
        vocabularies = (self.vocabulary, self.vocabulary)
        return random_batch(self.tokens, self.length, vocabularies, self.device, self.seed)

    def criterion(self) -> LabelSmoothedCrossEntropyCriterion:
        """The loss of the steps."""
        loss = ReversibleSearchCriterion if self.searches else LabelSmoothedCrossEntropyCriterion
        return loss(self.task(), sentence_avg=False, label_smoothing=0.1)

    def build(self, flags: Dict[str, Any]) -> RevDartsTransformerModel:
        """A network of this package, with `flags` of its configuration."""
        config = RevDartsTransformerConfig(
            share_all_embeddings=True,
            max_source_positions=self.positions,
            max_target_positions=self.positions,
            **flags,
        )
        torch.manual_seed(self.seed)
        model = RevDartsTransformerModel.build_model(config, self.task())
        model.warns_of_no_search = False
        return self._ready(model)

    def build_transformer(
        self, parameters: int, layers: int, heads: int
    ) -> FairseqEncoderDecoderModel:
        """fairseq's transformer of about as many parameters."""
        width, ffn_width = transformer_widths(parameters, self.vocabulary, layers, heads)
        config = TransformerConfig(share_all_embeddings=True)
        config.max_source_positions = config.max_target_positions = self.positions
        for side in (config.encoder, config.decoder):
            side.layers, side.embed_dim, side.ffn_embed_dim = layers, width, ffn_width
            side.attention_heads, side.normalize_before = heads, True
        config.decoder.input_dim = config.decoder.output_dim = width
        torch.manual_seed(self.seed)
        return self._ready(TransformerModelBase.build_model(config, self.task()))

    def _ready(self, model: FairseqEncoderDecoderModel) -> FairseqEncoderDecoderModel:
        return model.to(device=self.device, dtype=DTYPES[self.precision]).train()


def joint_dictionary(types: int) -> Dictionary:
    """A dictionary of so many types, fairseq's special symbols included."""
    symbols = Dictionary()
    for number in range(types - len(symbols)):
        symbols.add_symbol(str(number))
    return symbols


def random_batch(
    tokens: int, length: int, vocabularies: Tuple[int, int], device: str, seed: int
) -> Dict[str, Any]:
    """A batch of random sentences of one length.

    Args:
        tokens: target tokens
        length: tokens per sentence, of source and target
        vocabularies: types of the source and of the target dictionary
        device: where the batch lies
        seed: of the tokens
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (max(1, tokens // length), length)
    source, target = (
        torch.randint(4, types, shape, generator=generator).to(device) for types in vocabularies
    )
    lengths = torch.full((shape[0],), length, device=device)
    inputs = {
        "src_tokens": source,
        "src_lengths": lengths,
        "prev_output_tokens": target.roll(1, 1),
    }
    return {"net_input": inputs, "target": target, "ntokens": target.numel()}
