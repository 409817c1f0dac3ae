"""The search strategies by the name that --search-strategy gives them."""

from typing import Dict, Type

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
