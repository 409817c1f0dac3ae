"""The documented genotype file, and one that is not there."""

import json

from hypothesis import settings

#: The example of the documentation: files like it must stay readable.
DOCUMENTED = """
{"format": "revdarts-genotype", "version": 1, "pooling": "max",
 "encoder": [["ffn", "self_attention"], ["conv_3", "dynamic_conv_7"]],
 "decoder": [["ffn", "self_attention", "cross_attention"],
             ["glu", "cross_attention", "cross_attention"]]}
"""
NO_SUCH_FILE = "no/such/genotype.json"
moderate = settings(deadline=None, max_examples=100)


def documented(**fields):
    """The documented genotype as a dict, with some fields replaced."""
    return {**json.loads(DOCUMENTED), **fields}
