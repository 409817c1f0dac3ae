"""How all pictures look: the operations' families, colours and labels, and the files written."""

import io
from pathlib import Path
from typing import Any, Dict, List, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..search_space import family

#: Pale enough to carry text, and distinct to colour-blind readers (from Paul Tol's "light" scheme).
FAMILY_COLOURS: Dict[str, str] = {
    "convolution": "#77AADD",
    "dynamic convolution": "#EEDD88",
    "attention": "#EE8866",
    "feed-forward": "#44BB99",
    "parameter-free": "#D9D9D9",
    "other": "#BB66AA",
}
INK, PALE_INK, BACKGROUND = "#222222", "#6B6B6B", "#F4F4F2"

STYLE: Dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 8,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": PALE_INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": PALE_INK,
    "ytick.color": PALE_INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.frameon": False,
    "savefig.dpi": 200,
    # Text stays text: it can be searched, selected and edited.
    "svg.fonttype": "none",
    "svg.hashsalt": "revdarts",
    "pdf.fonttype": 42,
}
#: What would make the same picture another file each time.
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def colour(operation: str) -> str:
    """The colour of a candidate operation's family."""
    return FAMILY_COLOURS[family(operation)]


def label(operation: str, width: int = 1000) -> str:
    """An operation's name as pictures write it, of at most `width` characters."""
    text = operation.replace("_", " ")
    return text if len(text) <= width else text[: width - 1] + "…"


def families_of(operations: Sequence[str]) -> List[str]:
    """The families that occur among `operations`, in the legend's order."""
    present = {family(operation) for operation in operations}
    return [name for name in FAMILY_COLOURS if name in present]


def family_legend(figure: Any, operations: Sequence[str], **placing: Any) -> None:
    """A legend of the families among `operations`, in one row of `figure`."""
    names = families_of(operations)
    edge = {"edgecolor": INK, "linewidth": 0.6}
    marks = [Patch(facecolor=FAMILY_COLOURS[name], label=name, **edge) for name in names]
    size = {"handlelength": 1.1, "handleheight": 1.0, "handletextpad": 0.5, "columnspacing": 1.4}
    figure.legend(handles=marks, ncol=len(names), **size, **placing)


def save_picture(figure: Figure, path: str) -> None:
    """Write `figure` to `path`; its suffix, .svg, .png or .pdf, is the format."""
    form = Path(path).suffix[1:].lower()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, facecolor="white", metadata=UNDATED[form])
    Path(path).write_bytes(buffer.getvalue())


def house_style() -> Any:
    """A context in which pictures are drawn and written in the package's style."""
    return matplotlib.rc_context(STYLE)
