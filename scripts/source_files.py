"""The files of the repository that the checks of lines and sentences look at."""

import os
from pathlib import Path


def files():
    """Every file of the repository, without what is built."""
    for directory, folders, names in os.walk("."):
        folders[:] = sorted(folder for folder in folders if is_source(folder))
        yield from (Path(directory, name) for name in sorted(names))


def is_source(folder):
    return folder not in {"target", "__pycache__"} and not folder.startswith(".")
