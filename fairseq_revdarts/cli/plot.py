"""`revdarts-plot`: pictures of a search, a genotype, a profile or a table of networks.

PATH                               picture
the folder of a search             search.svg: what competes in every node, how decided alpha is,
                                   both losses; and genotype.svg: the cell found so far
a genotype, by file or name        its cell
a checkpoint                       the cell of its network, or of its search so far
several of these                   agreement.svg: what each chose in every node, and who agrees
a FILE of revdarts-profile         activation memory against depth for each --backprop mode
    --sweep layers --json FILE
a .csv file with the columns       validation loss and BLEU of every network, by kind and
    loss, bleu, perhaps kind, pair language pair
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence

from ..derivation import derive_genotype
from ..genotype import Genotype, GenotypeError, load_genotype
from ..search.checkpoint import load_checkpoint, search_of
from ..search.log import read_search_log
from .user_dir import add_user_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
GENOTYPE, LOG = "genotype.json", "search.jsonl"
Draw = Callable[[], "Figure"]
#: What is drawn, by the name of its file.
Pictures = Dict[str, Draw]


def parse_arguments(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="revdarts-plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_user_dir(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="what to draw")
    parser.add_argument(
        "-o",
        "--output",
        help="a file, whose suffix is the format, or a folder (default: next to PATH)",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: svg, or the suffix of --output")
    args = parser.parse_args(arguments)
    suffix = Path(args.output).suffix[1:].lower() if args.output else ""
    if suffix and not Path(args.output).is_dir():
        if suffix not in FORMATS:
            parser.error(f"--output {args.output}: must end in .{' or .'.join(FORMATS)}")
        if args.format not in (None, suffix):
            parser.error(f"--output {args.output}: its suffix is not --format {args.format}")
    return args


def read_genotype(path: str) -> Genotype:
    """The genotype of a search's folder, a file, a shipped name, or a checkpoint.

    Raises:
        ValueError: there is none, or it is damaged
    """
    if Path(path).suffix == ".pt":
        return _of_checkpoint(path)
    try:
        return load_genotype(str(Path(path) / GENOTYPE) if Path(path).is_dir() else path)
    except GenotypeError as error:
        raise GenotypeError(str(error).replace("--genotype ", "", 1)) from error


def _of_checkpoint(path: str) -> Genotype:
    """What a retrained checkpoint holds, or what a search's alpha puts first."""
    checkpoint = load_checkpoint(path)
    try:
        genotype = checkpoint["cfg"]["model"]["genotype"]
    except (LookupError, TypeError):  # another model's
        genotype = None
    if genotype is not None:
        return load_genotype(genotype)
    search = search_of(checkpoint, path)
    return derive_genotype(search.alphas, search.pooling)


def read_log(folder: str) -> List[Dict[str, Any]]:
    """The entries of the log in a search's folder. Raises a ValueError as `read_search_log`."""
    return read_search_log(str(Path(folder) / LOG))


def pictures_of(path: str) -> Pictures:
    """The pictures of one PATH; all is read before anything is drawn."""
    from ..plots.cell import draw_genotype
    from ..plots.search import draw_search

    if not Path(path).is_dir():
        return {Path(path).stem: picture_of_file(path)}
    pictures: Pictures = {}
    entries = read_log(path)
    if entries:
        pictures["search"] = partial(draw_search, entries)
    if (Path(path) / GENOTYPE).exists():
        pictures["genotype"] = partial(draw_genotype, read_genotype(path))
    if not pictures:
        raise ValueError(
            f"{path}: no update logged (--log-interval) and no checkpoint written so far"
        )
    return pictures


def picture_of_file(path: str) -> Draw:
    """The picture of a table of networks, a profile, a genotype or a checkpoint."""
    from ..plots.cell import draw_genotype
    from ..plots.memory import draw_memory, is_profile, read_profile
    from ..plots.networks import draw_networks, read_networks

    if Path(path).suffix == ".csv":
        return partial(draw_networks, read_networks(path))
    if is_profile(path):
        return partial(draw_memory, read_profile(path))
    return partial(draw_genotype, read_genotype(path))


def picture_of_agreement(paths: List[str]) -> Pictures:
    """The picture of several searches or genotypes."""
    from ..plots.agreement import draw_agreement

    genotypes = dict(zip(short_names(paths), map(read_genotype, paths)))
    return {"agreement": partial(draw_agreement, genotypes)}


def short_names(paths: List[str]) -> List[str]:
    """What tells the paths apart: their folders and names without what all begin or end with."""
    parts = [list(Path(path).absolute().parts) for path in paths]
    if len(set(map(tuple, parts))) < len(parts):
        raise ValueError(f"{' '.join(paths)}: one of them is given twice")
    for end in (0, -1):
        while all(part and part[end] == parts[0][end] for part in parts):
            for part in parts:
                part.pop(end)
    return ["/".join(part) or "." for part in parts]


def destination(args: argparse.Namespace, names: Sequence[str]) -> List[str]:
    """Where each picture goes.

    Raises:
        ValueError: --output names one file for several pictures, or a folder that is a file
    """
    if args.output and Path(args.output).suffix and not Path(args.output).is_dir():
        if len(names) > 1:
            raise ValueError(
                f"--output {args.output}: a search gives {len(names)} pictures, "
                f"{' and '.join(names)}; name a folder, and the format with --format"
            )
        return [args.output]
    path = Path(args.paths[0])
    beside = path if len(args.paths) == 1 and path.is_dir() else path.absolute().parent
    folder = Path(args.output) if args.output else beside
    folder.mkdir(parents=True, exist_ok=True)
    return [str(folder / f"{name}.{args.format or FORMATS[0]}") for name in names]


def main(arguments: Optional[List[str]] = None) -> None:
    """Entry point."""
    args = parse_arguments(arguments)
    try:
        from ..plots.style import house_style, save_picture
    except ImportError as error:
        sys.exit(f"revdarts-plot: error: {error}; pip install matplotlib (the extra plots has it)")
    several = len(args.paths) > 1
    try:
        pictures = picture_of_agreement(args.paths) if several else pictures_of(args.paths[0])
        for path, draw in zip(destination(args, list(pictures)), pictures.values()):
            with house_style():
                save_picture(draw(), path)
            print(f"picture written to {path}")
    except ValueError as error:
        sys.exit(f"revdarts-plot: error: {error}")
    except OSError as error:
        sys.exit(f"revdarts-plot: error: {error.filename}: cannot be written ({error.strerror})")


if __name__ == "__main__":
    main()
