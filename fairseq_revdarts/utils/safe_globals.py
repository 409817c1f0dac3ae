"""Plain data types that fairseq's checkpoints hold and torch's weights-only loading does not know.

A checkpoint of this package needs none of them. They are for checkpoints of fairseq's own models
(argparse's Namespace: the transformer beside which a search is judged), for training with
--eval-bleu (numpy's arrays of counts), and for several processes that resume: the first one sends
the others what it loaded, the configuration as omegaconf's objects. None of them runs code when it
is loaded.
"""

import argparse
import codecs
import sys
import typing
from collections import defaultdict
from typing import Any, List

import numpy as np
import omegaconf
from fairseq.distributed.utils import _TensorPlaceholder
from omegaconf.base import ContainerMetadata, Metadata

try:
    from numpy._core.multiarray import _reconstruct, scalar
except ImportError:  # numpy 1
    from numpy.core.multiarray import _reconstruct, scalar

SAFE_GLOBALS: List[Any] = [
    argparse.Namespace,
    codecs.encode,  # for bytes in numpy's arrays; torch 2.4 does not know it
    _reconstruct,
    scalar,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"]},
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.AnyNode,
    ContainerMetadata,
    Metadata,
    _TensorPlaceholder,
    defaultdict,
    dict,
    list,
    int,
]
if sys.version_info >= (3, 10):  # before, it has no name under which torch could know it
    SAFE_GLOBALS.append(typing.Any)
