"""fairseq plugin for memory-efficient differentiable Transformer architecture search.

Registers the architectures revdarts_transformer, revdarts_transformer_big and
revdarts_transformer_tiny, the baselines evolved_transformer and evolved_transformer_big, the task
bilevel_search and the criterion reversible_search. `register_operation` adds custom candidate
operations.
"""

import torch as _torch

from .criterions import reversible_search as _reversible_search  # noqa: F401
from .models.evolved_transformer.model import EvolvedTransformerModel as EvolvedTransformerModel
from .models.revdarts_transformer.model import RevDartsTransformerModel as RevDartsTransformerModel
from .registry import register_operation as register_operation
from .tasks import bilevel_search as _bilevel_search  # noqa: F401
from .utils.reading import name_damaged_checkpoints as _name_damaged_checkpoints
from .utils.safe_globals import SAFE_GLOBALS as _SAFE_GLOBALS

_name_damaged_checkpoints()
_torch.serialization.add_safe_globals(_SAFE_GLOBALS)
