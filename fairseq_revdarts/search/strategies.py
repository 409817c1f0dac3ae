"""The search strategies by the name that --search-strategy gives them."""

from typing import Dict, Type

from .config import BilevelSearchConfig
from .darts import Darts
from .elimination import Elimination
from .evolution import Evolution
from .sampling import Sampling
from .strategy import Strategy

#: config.py lists the names for the flag.
BY_NAME: Dict[str, Type[Strategy]] = {
    "darts": Darts,
    "sampling": Sampling,
    "elimination": Elimination,
    "evolution": Evolution,
}


def strategy_of(cfg: BilevelSearchConfig) -> Type[Strategy]:
    """The one that --search-strategy names."""
    return BY_NAME[str(cfg.search_strategy)]
