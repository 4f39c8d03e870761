"""Files below a directory, opened safely and read in threads: the event loop never waits for a disk."""

import asyncio
import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

READ_THREADS = 8
HASH_THREADS = 2  # hashing must never keep readers waiting
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}

_P = ParamSpec("_P")
_T = TypeVar("_T")


class FileChanged(Exception):
    """The file is no longer what it was when it was opened: its version is gone."""


class Disk:
    """The threads that read, write and hash."""

    def __init__(self) -> None:
        self.readers = ThreadPoolExecutor(READ_THREADS, "disk")
        self.hashers = ThreadPoolExecutor(HASH_THREADS, "hash")

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `work` returns, done in a thread. A cancelled caller waits for the thread: nothing goes on behind it."""
        doing = asyncio.wrap_future(self.readers.submit(work, *args, **kwargs))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait((doing,))
            raise

    def close(self) -> None:
        self.readers.shutdown(wait=True, cancel_futures=True)
        self.hashers.shutdown(wait=True, cancel_futures=True)


class OpenFile:
    """One open file and what it was when it was opened.

    It is closed once `close` was called and no thread reads it any more: a descriptor that were closed under a reader
    could already belong to another file.
    """

    def __init__(self, descriptor: int, real_path: str, status: os.stat_result, readers: Executor) -> None:
        self._descriptor = descriptor
        self._status = status
        self._readers = readers
        self._users = 1
        self._lock = threading.Lock()
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        # Inode and ctime too: for what we remember of its bytes, a doubt costs only another look.
        self.identity = f"{real_path}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"

    def __repr__(self) -> str:
        return f"<OpenFile {self.identity.partition(chr(0))[0]!r} {self.size} bytes>"

    @property
    def validator(self) -> str:
        """The same on every replica that keeps modification times."""
        return f"{self.size:x}-{self.mtime_ns:x}"

    def close(self) -> None:
        self._release()

    def read(self, offset: int, length: int) -> "asyncio.Future[bytes]":
        """Exactly those bytes, read in a thread. FileChanged, OSError."""
        return self.submit(self._readers, self.read_now, offset, length)

    def submit(
        self, pool: Executor, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> "asyncio.Future[_T]":
        """Work on this file in a thread; the file stays open until it is done or cancelled. OSError if it is closed:
        whoever works in several steps takes `hold` for all of them."""
        self._take()
        job = pool.submit(work, *args, **kwargs)
        job.add_done_callback(lambda _: self._release())
        return asyncio.wrap_future(job)

    def read_now(self, offset: int, length: int) -> bytes:
        """The same in the calling thread."""
        data = os.pread(self._descriptor, length, offset)
        now = os.fstat(self._descriptor)  # after reading: what changed before or meanwhile shows
        before = self._status
        if len(data) != length or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise FileChanged("the file changed while it was read")
        return data

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps the file open though its opener closes it meanwhile. OSError if it is closed already."""
        self._take()
        try:
            yield
        finally:
            self._release()

    def _take(self) -> None:
        """One more user. The number of a closed descriptor may be somebody else's by now: never revive it."""
        with self._lock:
            if self._users == 0:
                raise OSError(errno.EBADF, "the file is closed")
            self._users += 1

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            os.close(self._descriptor)


class Tree:
    """A directory whose files may be opened, and nothing outside it, symbolic links included."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.root = root
        self._disk = disk

    def __repr__(self) -> str:
        return f"<Tree {self.root}>"

    async def open(self, parts: Sequence[str]) -> OpenFile | None:
        """The regular file of that name (decoded segments), or None. OSError when there is one and it is unreadable."""
        opening = asyncio.ensure_future(self._disk.run(self.open_now, parts))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    def open_now(self, parts: Sequence[str]) -> OpenFile | None:
        """The same in the calling thread."""
        root = os.path.realpath(self.root)  # each time: operators swap releases by a symbolic link
        real = os.path.realpath(Path(root, *parts))
        if os.path.commonpath((root, real)) != root:
            return None
        try:
            # O_NONBLOCK: opening a pipe that nobody writes to must not hang the thread.
            descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        return OpenFile(descriptor, real, status, self._disk.readers)


def _close_opened(opening: "asyncio.Future[OpenFile | None]") -> None:
    """Whoever asked is gone: nobody else will close it."""
    if not opening.cancelled() and opening.exception() is None and (file := opening.result()) is not None:
        file.close()
