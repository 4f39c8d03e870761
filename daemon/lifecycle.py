"""The life of a program: read the configuration, start, say ready on stdout, run until told to stop, stop, exit.

Exit codes: 0 after a clean stop, 2 for what the operator must mend (one line on stderr, no traceback), 1 for a failure
of our own (with its traceback). SIGTERM or SIGINT asks for a graceful stop; a second one exits at once, with
128 + signal. SIGHUP, of a program that can do so, reads the configuration again: one that is wrong changes nothing.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import uvloop

from daemon import logs
from daemon.config import load, parse_arguments
from daemon.errors import StartupError

CLEAN, FAILED, REFUSED = 0, 1, 2

log = logging.getLogger(__name__)
Config = TypeVar("Config", bound=msgspec.Struct)
T = TypeVar("T")
P = TypeVar("P", bound="Program")


class Program(Protocol):
    """What `start` returns: something that already serves."""

    def ready(self) -> Mapping[str, object]:
        """What the ready line says beside `ready`: the addresses it listens at."""

    async def run(self) -> None:
        """Its own tasks, until cancelled. Returning asks for a stop; raising ends the program after `stop`."""

    async def stop(self) -> None:
        """Leaves gracefully and closes everything; `run` goes on meanwhile. Called once."""


def run_program(
    prog: str,
    description: str,
    config_type: type[Config],
    start: Callable[[Config], Coroutine[Any, Any, P]],
    argv: Sequence[str] | None = None,
    check: Callable[[Config], None] | None = None,
    reload: Callable[[P, Config], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """A whole `main`: arguments, configuration (`--check` ends there), life, exit code.

    `check` tries what the configuration names (key files, directories) for `--check`, leaves no trace, and raises
    StartupError as `start` would. `start` raises StartupError for what the operator must mend; whatever it opened
    before, it closes itself, also when it is cancelled by a signal. `reload` puts a configuration in force that passed
    `check`; StartupError if it cannot, with nothing changed.
    """
    arguments = parse_arguments(prog, argv, description)

    def read(*, checked: bool) -> Config:
        config = load(arguments.config, os.environ, config_type)
        if checked and check is not None:
            check(config)
        return config

    async def reload_file(program: P) -> None:
        if reload is not None:
            await reload(program, await asyncio.to_thread(read, checked=True))

    try:
        config = read(checked=arguments.check)
        if arguments.check:
            print("configuration ok")  # noqa: T201 - the answer to the question
            return CLEAN
        logs.set_up()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(live(lambda: start(config), reload_file if reload is not None else None))
    except StartupError as error:
        print(f"{prog}: {error}", file=sys.stderr)  # noqa: T201 - one line for the operator
        return REFUSED


async def live(
    start: Callable[[], Coroutine[Any, Any, P]], reload: Callable[[P], Coroutine[Any, Any, None]] | None = None
) -> int:
    """Starts a program and sees it through to its end. StartupError as `start` or `run` raised it."""
    asked = _stop_on_signals()
    hung_up = _set_by_hangup() if reload is not None else None
    program = await _unless(asked, start())
    if program is None:
        return CLEAN  # told to stop before it was ready
    running = asyncio.create_task(program.run())
    reloading = asyncio.create_task(_reload_on(hung_up, reload, program)) if hung_up and reload else None
    try:
        _say_ready(program)
        await _unless(asked, asyncio.wait((running,)))
        log.info("stopping")
        if reloading is not None:
            reloading.cancel()
            await asyncio.wait((reloading,))
        await program.stop()
    finally:
        running.cancel()
        await asyncio.wait((running,))
    return _outcome(running)


async def _unless(asked: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` comes to; None, with `work` cancelled, if a stop is asked for first."""
    working = asyncio.create_task(work)
    asking = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait((working, asking), return_when=asyncio.FIRST_COMPLETED)
    finally:
        asking.cancel()
        working.cancel()
        await asyncio.wait((working, asking))
    return None if working.cancelled() else working.result()


def _outcome(running: "asyncio.Task[None]") -> int:
    """The exit code. Raises StartupError if that is what ended the program."""
    error = None if running.cancelled() else running.exception()
    if error is None:
        log.info("stopped")
        return CLEAN
    if (refused := _startup_error(error)) is not None:
        raise refused
    log.error("failed", exc_info=error)
    return FAILED


def _startup_error(error: BaseException) -> StartupError | None:
    """The error itself, or the first such in the group that a TaskGroup makes of it."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _startup_error(inner))), None)
    return error if isinstance(error, StartupError) else None


def _stop_on_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process there and then."""
    asked = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if asked.is_set():
            os._exit(128 + number)
        log.info("asked to stop", extra=logs.fields(signal=number.name))
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return asked


def _set_by_hangup() -> asyncio.Event:
    """Set by each SIGHUP, from the start on: what comes before the program is ready is seen to then."""
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    return hung_up


async def _reload_on(hung_up: asyncio.Event, reload: Callable[[P], Coroutine[Any, Any, None]], program: P) -> None:
    """One reload after another, until cancelled; several asked for during one are one."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            await reload(program)
        except StartupError as error:
            log.error("configuration not reloaded, nothing has changed: %s", error)
        except Exception:
            # A fault of ours, but what is being served is worth more than to end here; the next SIGHUP may go well.
            log.exception("configuration not reloaded, or not all of it")


def _say_ready(program: Program) -> None:
    line = json.dumps({"ready": True, **program.ready()})
    with contextlib.suppress(BrokenPipeError):  # whoever started us no longer listens; we serve all the same
        print(line, flush=True)  # noqa: T201 - the ready line is the interface
