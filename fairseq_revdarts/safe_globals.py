"""Plain data types that fairseq's checkpoints hold and torch's weights-only loading does not know.

A checkpoint of this package needs none of them. They are for checkpoints of fairseq's own models
(argparse's Namespace: the transformer beside which a search is judged) and for training with
--eval-bleu (numpy's arrays of counts). None of them runs code when it is loaded.
"""

import argparse
from typing import Any, List

import numpy as np

try:
    from numpy._core.multiarray import _reconstruct, scalar
except ImportError:  # numpy 1
    from numpy.core.multiarray import _reconstruct, scalar

SAFE_GLOBALS: List[Any] = [
    argparse.Namespace,
    _reconstruct,
    scalar,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"]},
]
