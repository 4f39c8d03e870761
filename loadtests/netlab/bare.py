"""A bare TCP sender: what a link gives to one connection that does nothing but send, on the links of this very run."""

import socket
import threading
import time

from loadtests.netlab.links import Host

PORT = 9
FOR_S = 2.0  # of traffic at the shaped rate


def goodput_bps(sender: Host, receiver: Host) -> float:
    """Bytes received after the first, by the time from the first to the last. The sender accepts, as servers do."""
    rate_bps = min(sender.link.up_bps, receiver.link.down_bps)
    with sender.space.entered():
        listener = socket.create_server((sender.address, PORT))
    with listener, receiver.space.connect(PORT, sender.address) as connection:
        accepted, _ = listener.accept()
        sending = threading.Thread(target=_send, args=(accepted, int(FOR_S * rate_bps / 8)))
        sending.start()
        try:
            return _receive(connection)
        finally:
            sending.join()


def _send(connection: socket.socket, size_bytes: int) -> None:
    with connection:
        connection.sendall(bytes(size_bytes))


def _receive(connection: socket.socket) -> float:
    buffer = bytearray(1 << 18)
    first = connection.recv_into(buffer)
    began = time.monotonic()
    got = 0
    while more := connection.recv_into(buffer):
        got += more
    if not first or not got:
        raise RuntimeError("the bare TCP sender was cut off")
    return 8 * got / (time.monotonic() - began)
