"""Estimate time and memory of a fairseq-train command before it starts:
python estimate.py PROCESSES DATA FLAGS...

The work is counted in weights times tokens, and measured by the one figure that is known: the
paper's search took about 40 hours on 8 V100 (as reported). The memory is that of weights, gradients
and Adam (16 bytes per parameter), of activations, in multiples of the width that revdarts-profile
measured on the CPU, and of the logits. Expect an error of half, and of more on other cards.
"""

import statistics
import sys
from typing import Any, List

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from torch import nn

from fairseq_revdarts.models.revdarts_transformer.model import RevDartsTransformerModel
from fairseq_revdarts.search.strategies import BY_NAME

#: The paper's search: weights of its supernet (without embeddings), tokens per update, updates;
#: each a step of theta and one of alpha, with reconstruction.
PAPER_HOURS = 8 * 40
PAPER_WORK = 443e6 * 8 * 5000 * 30000 * 2 * 4
#: Multiples of the weights' multiplications: forward and backward; with recomputation.
PASSES = {"store": 3, "checkpoint": 4, "reconstruct": 4}
#: Bytes of weights, gradients and both moments of Adam; of a number.
ADAM, FLOAT = 16, 4
#: Activations kept at once per token, in multiples of the width: outside the layers, of one
#: operation, of a transformer's layer. Measured with 12 + 12 layers.
OUTSIDE, OF_OPERATION, OF_TRANSFORMER = 12, 7, 18


def activations(cfg: Any, backprop: str, of_layer: int) -> float:
    """Numbers that one token keeps at once, when a layer that is stored keeps `of_layer` widths."""
    width = getattr(cfg, "hidden_size", None) or cfg.encoder_embed_dim
    layers = cfg.encoder_layers + cfg.decoder_layers
    stored = {"store": layers * of_layer, "checkpoint": layers + of_layer, "reconstruct": 0}
    return width * (OUTSIDE + stored[backprop])


def active_counts(model: RevDartsTransformerModel, cfg: Any) -> List[int]:
    """How many of a node's candidates are evaluated, at a hundred moments of a search."""
    strategy = BY_NAME[str(getattr(cfg.task, "search_strategy", "darts"))](model, cfg.task)
    moments = (max(1, cfg.optimization.max_update * part // 100) for part in range(1, 101))
    candidates = len(model.architecture.candidates["encoder"])
    return [strategy.active_count(update, candidates) for update in moments]


def estimate(processes: int, flags: List[str]) -> str:
    """Hours and gigabytes of the training that `flags` ask for."""
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=flags)
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    with torch.device("meta"):
        model = task.build_model(cfg.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = parameters - sum(weight.numel() for weight in embeddings)

    reversible = hasattr(model, "stacks")
    backprop = model.stacks()[0].backprop if reversible else "store"
    searches = getattr(model, "architecture", None) is not None
    batch, frequency = cfg.dataset.max_tokens, cfg.optimization.update_freq[0]
    tokens = batch * frequency * processes
    updates = cfg.optimization.max_update
    active = active_counts(model, cfg) if searches else [1]
    of_layer = OF_OPERATION * max(active) if reversible else OF_TRANSFORMER
    if searches:
        weights *= statistics.mean(active) / len(model.architecture.candidates["encoder"])
    steps = 2 if max(active) > 1 else 1  # alpha has no step of its own on single paths
    work = weights * tokens * updates * PASSES[backprop] * steps
    hours = PAPER_HOURS * work / PAPER_WORK
    kept = FLOAT * batch * activations(cfg.model, backprop, of_layer)
    logits = 0 if searches else 3 * FLOAT * batch * len(task.target_dictionary)
    gigabytes = (ADAM * parameters + kept + logits) / 1e9
    return (
        f"estimate: {parameters / 1e6:.1f} M parameters, {updates:,} updates of {tokens:,} tokens "
        f"({processes} processes, {batch:,} tokens, --update-freq {frequency}): about {hours:,.1f} "
        f"V100-hours, {hours / processes:,.1f} hours; {gigabytes:.1f} GB per GPU"
    )


def main() -> None:
    """Entry point."""
    print(estimate(int(sys.argv[1]), sys.argv[2:]))


if __name__ == "__main__":
    main()
