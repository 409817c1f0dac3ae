"""What `revdarts-derive` reads: the checkpoints of made-up searches."""

import torch
from torch.nn.functional import pad

from fairseq_revdarts.search_space import CANDIDATES, CROSS_ATTENTION

OLD = "what the output file held before\n"


def random_alpha(seed=0, cell_layers=2, encoder_splits=2, searched=2):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"encoder": (cell_layers, encoder_splits, 13), "decoder": (cell_layers, searched, 14)}
    return {side: torch.randn(shape, generator=generator) for side, shape in shapes.items()}


def random_living(seed, threshold):
    """Candidates that are left in each node, at least one: by side, True for them."""
    numbers = random_alpha(seed)
    return {
        side: (number < threshold) | (number == number.amin(-1, keepdim=True))
        for side, number in numbers.items()
    }


def search(alpha=None, pooling="max", living=None, **flags):
    """What a search's checkpoint holds, as far as it matters here."""
    alpha = random_alpha() if alpha is None else alpha
    model = {f"architecture.{side}": tensor for side, tensor in alpha.items()}
    weights = {
        "encoder.layer_norm.weight": torch.ones(4),
        "architecture.encoder_step": torch.ones(()),
    }
    left = {f"architecture.{side}_living": tensor for side, tensor in (living or {}).items()}
    return {
        "cfg": {"model": {"pooling": pooling, **flags}},
        "model": {**weights, **model, **left},
    }


CUSTOM_MESSAGE = "of 14 candidates, 13 are known; .* which had --user-dir mine"


def with_custom_operation(user_dir):
    """What the checkpoint of a search with one more operation holds, registered by `user_dir`."""
    content = search({side: pad(alpha, (0, 1)) for side, alpha in random_alpha().items()})
    return {**content, "cfg": {**content["cfg"], "common": {"user_dir": user_dir}}}


def save(path, content):
    torch.save(content, path)
    return str(path)


def best(side, alpha, exclude=()):
    """The argmax of each node, computed the slow way."""
    fixed = [CROSS_ATTENTION] if side == "decoder" else []
    return tuple(
        tuple(
            [
                max(
                    (value, name)
                    for value, name in zip(node, CANDIDATES[side])
                    if name not in exclude
                )[1]
                for node in layer
            ]
            + fixed
        )
        for layer in alpha[side].tolist()
    )
