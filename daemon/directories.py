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


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
