"""--user-dir of the revdarts commands: a folder whose own candidate operations they know of."""

import argparse

from fairseq.utils import import_user_module


def add_user_dir(parser: argparse.ArgumentParser) -> None:
    """Add the flag; the folder is imported as soon as it is read, before any other argument."""
    parser.add_argument(
        "--user-dir",
        type=_import,
        metavar="DIR",
        help="as of fairseq-train: a package that registers operations of its own",
    )


def _import(folder: str) -> str:
    try:
        import_user_module(argparse.Namespace(user_dir=folder))
    except (ImportError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{folder}: cannot be imported ({error})") from error
    return folder
