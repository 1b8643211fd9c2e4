"""A proxy between a client and a server that misbehaves as it is told."""

import socket
import threading
import time
from contextlib import suppress


class FaultyProxy:
    """Forwards TCP connections. `fault` is of connections that begin from then on, and may be changed at any time.

    "": none. "refuse": connections are reset at once. "error": the answer is HTTP 500. "slow": the server's answer
    comes after `delay` seconds. "lose": the request reaches the server, its answer is dropped with the connection.
    "cut": the connection ends within the request.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.fault = ""
        self.delay = 1.0
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.requests += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        fault = self.fault
        with client, suppress(OSError):
            if fault == "refuse":
                return
            if fault == "error":
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                back = threading.Thread(target=self._answer, args=(server, client, fault), daemon=True)
                back.start()
                while part := client.recv(1 << 16):
                    # A connection that is kept alive has the fault of its last request.
                    server.sendall(part[: len(part) // 2] if self.fault == "cut" else part)
                    if self.fault in ("cut", "refuse"):
                        return
                back.join(5)

    def _answer(self, server: socket.socket, client: socket.socket, fault: str) -> None:
        with suppress(OSError):
            while part := server.recv(1 << 16):
                if self.fault == "slow":
                    time.sleep(self.delay)
                # A client may wait for "100 Continue" before it sends what is to be stored: that is no answer yet.
                if self.fault == "lose" and not part.startswith(b"HTTP/1.1 100"):
                    self.fault = ""
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(part)
