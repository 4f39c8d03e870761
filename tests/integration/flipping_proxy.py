"""A bad network cable: a TCP proxy that flips bits of one byte in so many, in both directions.

python -m tests.integration.flipping_proxy --target FILE [--one-in 1000] [--how every|random] [--seed 7]

Connections go to the address that FILE holds at that moment (none: refused). Prints a ready line like our programs, and
on stderr, when it ends, how many bytes it flipped.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 64 << 10


class EveryNth:
    """Flips the n-th, 2n-th, ... byte of one direction of one connection."""

    def __init__(self, one_in: int) -> None:
        self._one_in = one_in
        self._passed = 0
        self.flipped = 0

    def flip(self, data: bytearray) -> None:
        first = self._one_in - 1 - self._passed % self._one_in
        for at in range(first, len(data), self._one_in):
            data[at] ^= 0x55
            self.flipped += 1
        self._passed += len(data)


class AtRandom:
    """Flips each byte with a chance of one in n."""

    def __init__(self, one_in: int, rng: random.Random) -> None:
        self._rate = 1 / one_in
        self._rng = rng
        self._left = self._gap()
        self.flipped = 0

    def _gap(self) -> int:
        return int(self._rng.expovariate(self._rate))

    def flip(self, data: bytearray) -> None:
        at = self._left
        while at < len(data):
            data[at] ^= 1 << self._rng.randrange(8)
            self.flipped += 1
            at += 1 + self._gap()
        self._left = at - len(data)


Flipper = EveryNth | AtRandom


class Proxy:
    def __init__(self, target: Path, make_flipper: Callable[[], Flipper]) -> None:
        self._target = target
        self._make_flipper = make_flipper
        self._flippers: list[Flipper] = []
        self._passed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host, _, port = self._target.read_text().strip().rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
        except (OSError, ValueError):
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, back))
            tasks.create_task(self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flipper = self._make_flipper()
        self._flippers.append(flipper)
        try:
            while data := bytearray(await reader.read(CHUNK_BYTES)):
                flipper.flip(data)
                self._passed += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one side broke off: so does the other
        finally:
            writer.close()

    def __repr__(self) -> str:
        flipped = sum(flipper.flipped for flipper in self._flippers)
        return f"<Proxy flipped {flipped} of {self._passed} bytes>"


async def run(arguments: argparse.Namespace) -> None:
    rng = random.Random(arguments.seed)

    def make_flipper() -> Flipper:
        return EveryNth(arguments.one_in) if arguments.how == "every" else AtRandom(arguments.one_in, rng)

    proxy = Proxy(arguments.target, make_flipper)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"ready": True, "listen": f"{host}:{port}"}), flush=True)
    await stopped.wait()
    print(proxy, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--one-in", type=int, default=1000)
    parser.add_argument("--how", choices=("every", "random"), default="every")
    parser.add_argument("--seed", type=int, default=7)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
