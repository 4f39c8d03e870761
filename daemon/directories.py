"""Directories a program writes to, tried before it serves."""

import errno
import os
import tempfile
from pathlib import Path

from daemon.errors import StartupError


def usable_directory(key: str, directory: Path) -> Path:
    """Makes the directory where it is missing and writes a byte into it. StartupError, naming `key`, if that fails.

    A full disk passes: a program serves on from what it has, and says so while it runs.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"\0")
            probe.flush()
    except FileExistsError as error:
        raise StartupError(f"{key} {directory}: not a directory") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StartupError(f"{key} {directory}: {_reason(error)}") from error
    return directory


def check_directory(key: str, directory: Path) -> None:
    """What `usable_directory` would come to, but nothing is made. StartupError, naming `key`, if it would fail.

    For a directory that is missing: whether the nearest one above it may be written to.
    """
    try:
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    except OSError as error:
        raise StartupError(f"{key} {directory}: {_reason(error)}") from error
    if there == directory:
        usable_directory(key, directory)
    elif not there.is_dir():
        raise StartupError(f"{key} {directory}: not a directory")
    elif not os.access(there, os.W_OK | os.X_OK):
        raise StartupError(f"{key} {directory}: missing, and cannot be made in {there}")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
