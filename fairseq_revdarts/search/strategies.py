"""The search strategies by the name that --search-strategy gives them."""

from typing import Dict, Type

from .config import STRATEGIES
from .darts import Darts
from .elimination import Elimination
from .evolution import Evolution
from .sampling import Sampling
from .strategy import Strategy

CLASSES = (Darts, Sampling, Elimination, Evolution)
BY_NAME: Dict[str, Type[Strategy]] = dict(zip(STRATEGIES, CLASSES))
