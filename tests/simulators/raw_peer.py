"""A peer on loopback that sends whatever bytes a test wants, for as long as somebody listens."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager


@contextmanager
def running_peer(speak):
    """Call ``speak(connection)`` for every connection, each in a thread; the value is host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections, threads = [], []

    def serve(connection):
        with contextlib.suppress(OSError):
            speak(connection)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in (accepting, *threads):
            thread.join()
