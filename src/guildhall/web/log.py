"""Structured logs: one line per event, JSON in UTC, with ids and never a token, an address or a body."""

import asyncio
import atexit
import logging
import sys
from typing import Any, BinaryIO

import msgspec
import structlog

_encode = msgspec.json.Encoder(enc_hook=str).encode


def _render(_: Any, __: str, event: Any) -> bytes:
    return _encode(event)


def configure_logs(level: str = "info") -> None:
    """Write to standard output. Libraries' own records take the same way."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    lines = Lines(sys.stdout.buffer)
    atexit.register(lines.flush)
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda: lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                lambda logger, name, event: _render(logger, name, event).decode(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


class Lines:
    """Writes the lines of a moment together, since a write for each costs a busy server more than making
    it does. Warnings and worse are written at once, with what came before them.
    """

    def __init__(self, file: BinaryIO, moment_s: float = 0.05) -> None:
        self._file = file
        self._moment_s = moment_s
        self._kept: list[bytes] = []
        self._due: asyncio.TimerHandle | None = None

    def info(self, line: bytes) -> None:
        self._kept.append(line)
        if self._due is None:
            try:
                self._due = asyncio.get_running_loop().call_later(self._moment_s, self.flush)
            except RuntimeError:
                self.flush()

    def warning(self, line: bytes) -> None:
        self._kept.append(line)
        self.flush()

    debug = msg = info
    warn = error = critical = exception = fatal = failure = err = warning

    def flush(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        kept, self._kept = self._kept, []
        if kept:
            self._file.write(b"\n".join((*kept, b"")))
            self._file.flush()


def logger() -> Any:
    """The logger; bind nothing to it that a request owns."""
    return structlog.get_logger()
