"""The HTTP server: granian with our limits, its processes started and stopped with the service."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server as Granian

from guildhall.commands.children import DRAIN_S, follow
from guildhall.settings import Settings

HEADER_READ_MS = 10_000
# The request line and headers we accept, with room to tell those that are larger that they are.
BUFFER_BYTES = 32 * 1024
BACKLOG = 2_048

# Through the root logger, and only what an operator has to act on.
_LOGS: dict[str, Any] = {
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}, "granian.access": {"handlers": []}},
}


class _Loader:
    """What each of the server's processes does first. Called in that process."""

    def __init__(self, load: Callable[[], Any], closing: tuple[int, ...]) -> None:
        self._parent = os.getpid()
        self._load = load
        self._closing = closing
        self.stopping = False

    def __call__(self) -> Any:
        # Signals that came before this are the parent's handler's, copied by the fork; from here until the
        # server has its own, to die is right, since nothing was accepted yet.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if self.stopping:
            os._exit(0)
        if os.getpid() != self._parent:
            follow(self._parent)
            for descriptor in self._closing:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        return self._load()


def _application() -> Any:
    from guildhall.wiring import application

    return application()


def serve_http(
    settings: Settings,
    address: str,
    port: int,
    *,
    closing: tuple[int, ...],
    on_stop: Callable[[], object],
    load: Callable[[], Any] = _application,
) -> bool:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted. False when the processes kept failing.

    Each process calls `load` for its ASGI application and closes the descriptors in `closing`. The service's
    own application reads its settings from the environment.
    """
    if sys.platform == "linux":
        # The newer default cannot hand over sockets, and a fork shares what is already imported.
        multiprocessing.set_start_method("fork", force=True)
    server = Granian(
        "guildhall.wiring:application",
        address=address,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=BACKLOG,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_READ_MS, max_buffer_size=BUFFER_BYTES),
        log_level=LogLevels.error,
        log_dictconfig=_LOGS,
        respawn_failed_workers=True,
        respawn_interval=0,
        workers_kill_timeout=int(DRAIN_S),
    )
    loader = _Loader(load, closing)

    def stop() -> None:
        loader.stopping = True
        server.interrupt_signal = True
        server.main_loop_interrupt.set()
        on_stop()

    def noted(*_: object) -> None:
        loader.stopping = True

    @server.on_startup
    def listen_to_signals() -> None:  # pyright: ignore[reportUnusedFunction]
        # The main thread waits without end, and a signal that comes just before it begins to wait does not
        # wake it. So another thread hears of signals, by what the interpreter writes for each.
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=_call_at_first, args=(reading, stop), name="signals", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, noted)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    reading, writing = socket.socketpair()
    writing.setblocking(False)
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    except SystemExit as ended:
        return not ended.code
    finally:
        signal.set_wakeup_fd(-1)
        writing.close()
    return True


def _call_at_first(reading: socket.socket, stop: Callable[[], object]) -> None:
    """Call `stop` when something can be read, and not when the other end is closed."""
    if reading.recv(1):
        stop()
    reading.close()
