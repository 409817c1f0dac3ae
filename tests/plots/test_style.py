"""The families' colours: one for each, and apart for colour-blind readers too."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fairseq_revdarts.plots.style import FAMILY_COLOURS
from fairseq_revdarts.search_space import CANDIDATES, family

#: What the three kinds of colour blindness make of linear RGB (Machado et al. 2009, severity 1).
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)


def lab(colour, vision):
    """A colour in CIE L*a*b*, in which equal distances look alike: 2 is just noticeable."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = XYZ @ np.clip(np.array(vision) @ linear, 0, 1) / WHITE
    x, y, z = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION.values(), ids=VISION)
def test_families_are_apart_for_every_reader(vision):
    for first, second in combinations(FAMILY_COLOURS, 2):
        colours = [lab(FAMILY_COLOURS[name], vision) for name in (first, second)]
        assert np.linalg.norm(colours[0] - colours[1]) > 14, (first, second)


@pytest.mark.parametrize("operation", sorted(CANDIDATES["decoder"]))
def test_every_operation_has_a_family_of_its_kind(operation):
    expected = {"dynamic": "dynamic convolution", "conv": "convolution", "cross": "attention"}
    expected.update(self="attention", glu="feed-forward", ffn="feed-forward")
    kind = operation.split("_")[0]
    assert family(operation) == expected.get(kind, "parameter-free")
    assert family(operation) in FAMILY_COLOURS
