"""A bare TCP sender: what a link gives to one connection that does nothing but send, on the links of this very run."""

import socket
import threading
import time

from loadtests.netlab.links import Host

PORT = 9
FOR_S = 2.0  # of traffic at the shaped rate
UNCOUNTED = 0.25  # of the bytes, at the start


def goodput_bps(sender: Host, receiver: Host) -> float:
    """Of what came after TCP had found its speed. The sender accepts, as servers do."""
    size_bytes = int(FOR_S * min(sender.link.up_bps, receiver.link.down_bps) / 8)
    with sender.space.entered():
        listener = socket.create_server((sender.address, PORT))
    with listener, receiver.space.connect(PORT, sender.address) as connection:
        accepted, _ = listener.accept()
        sending = threading.Thread(target=_send, args=(accepted, size_bytes))
        sending.start()
        try:
            return _receive(connection, size_bytes)
        finally:
            sending.join()


def _send(connection: socket.socket, size_bytes: int) -> None:
    with connection:
        connection.sendall(bytes(size_bytes))


def _receive(connection: socket.socket, size_bytes: int) -> float:
    buffer = bytearray(1 << 18)
    got, counted_bytes, began = 0, 0, 0.0
    while more := connection.recv_into(buffer):
        got += more
        if began:
            counted_bytes += more
        elif got >= UNCOUNTED * size_bytes:
            began = time.monotonic()
    if got != size_bytes:
        raise RuntimeError("the bare TCP sender was cut off")
    return 8 * counted_bytes / (time.monotonic() - began)
