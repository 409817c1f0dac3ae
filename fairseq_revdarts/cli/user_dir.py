"""--user-dir of the revdarts commands: a folder with custom candidate operations."""

import argparse

from fairseq.utils import import_user_module


def add_user_dir(parser: argparse.ArgumentParser) -> None:
    """Add the flag; the folder is imported as soon as it is read, before any other argument."""
    parser.add_argument(
        "--user-dir",
        type=_import,
        metavar="DIR",
        help="a package that registers custom operations, as for fairseq-train (default: none)",
    )


def _import(folder: str) -> str:
    try:
        import_user_module(argparse.Namespace(user_dir=folder))
    except (ImportError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{folder}: cannot be imported ({error})") from error
    return folder
