"""Batches and losses of small networks."""

from types import SimpleNamespace

import torch
from helpers import PAD, dictionary, generator

TYPES = 60


def sample():
    numbers = generator(0)
    source, target = (torch.randint(4, TYPES, (5, 7), generator=numbers) for _ in range(2))
    target[1, -3:] = PAD
    inputs = {"src_tokens": source, "src_lengths": None, "prev_output_tokens": target}
    return {"net_input": inputs, "target": target, "ntokens": int(target.ne(PAD).sum())}


def build(kind, **more):
    task = SimpleNamespace(target_dictionary=dictionary(TYPES))
    return kind(task, sentence_avg=False, label_smoothing=0.1, **more)


def criterion(model, batch):
    logits, _ = model(**batch["net_input"])
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["target"].flatten(), reduction="sum"
    )
    return loss, batch["target"].numel(), {}


def batch(seed=0):
    numbers = generator(seed)

    def tokens(length):
        return torch.randint(4, TYPES, (4, length), generator=numbers)

    inputs = {"src_tokens": tokens(5), "src_lengths": None, "prev_output_tokens": tokens(6)}
    return {"net_input": inputs, "target": tokens(6)}
