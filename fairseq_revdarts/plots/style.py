"""How all pictures look: the operations' families, colours and labels, and the files written."""

import io
from pathlib import Path
from typing import Any, Dict, List, Sequence

import matplotlib
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..search_space import family

#: Colours that remain distinct to colour-blind readers (Okabe and Ito 2008).
FAMILY_COLOURS: Dict[str, str] = {
    "convolution": "#0072B2",
    "dynamic convolution": "#56B4E9",
    "attention": "#D55E00",
    "feed-forward": "#009E73",
    "parameter-free": "#7F7F7F",
    "other": "#CC79A7",
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


def tint(shade: str) -> str:
    """A pale version of a colour, for areas that carry text."""
    return to_hex([1 - 0.38 * (1 - part) for part in to_rgb(shade)])


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
    marks = [
        Line2D([], [], linestyle="", marker="s", color=FAMILY_COLOURS[name], label=name)
        for name in names
    ]
    figure.legend(handles=marks, ncol=len(names), handletextpad=0.2, columnspacing=1.2, **placing)


def save_picture(figure: Figure, path: str) -> None:
    """Write `figure` to `path`; its suffix, .svg, .png or .pdf, is the format."""
    form = Path(path).suffix[1:].lower()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, facecolor="white", metadata=UNDATED[form])
    Path(path).write_bytes(buffer.getvalue())


def house_style() -> Any:
    """A context in which pictures are drawn and written in the package's style."""
    return matplotlib.rc_context(STYLE)
