"""Structured logs: one line per event with ids, and never a token, an address or a body.

JSON in UTC for machines; for a person at a terminal the same events in short lines.
"""

import asyncio
import atexit
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import msgspec
import structlog

_encode = msgspec.json.Encoder(enc_hook=str).encode


class RequestLine(msgspec.Struct, omit_defaults=True, tag_field="event", tag="request", gc=False):
    """What is said of a request. `ms` is how long it took."""

    level: str
    at: datetime
    method: str
    path: str
    status: int
    ms: float
    request_id: str
    user: str | None = None
    cause: str | None = None
    code: str | None = None


def _render_json(_: Any, __: str, event: Any) -> bytes:
    return _encode(event)


def _render_text(_: Any, __: str, event: Any) -> bytes:
    """`12:03:04 GET /api/communities 200 3.1 ms`; other events by name, with what they carry."""
    rest = dict(event)
    at = datetime.fromisoformat(rest.pop("at")).astimezone().strftime("%H:%M:%S")
    level, name = rest.pop("level", "info"), str(rest.pop("event"))
    trace = rest.pop("exception", None)
    if name == "request":
        words = [f"{rest.get('method')} {rest.get('path')} {rest.get('status')} {rest.get('ms')} ms"]
        words += [str(rest[key]) for key in ("code", "cause", "user") if key in rest]
    else:
        words = [name if level == "info" else f"{level}: {name}"]
        words += [f"{key}={value}" for key, value in rest.items()]
    line = " ".join((at, *words))
    # Whatever a stranger put into a path must not steer the terminal.
    clean = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
    return "\n".join([clean, *([str(trace)] if trace else [])]).encode(errors="backslashreplace")


def _request_as_text(line: RequestLine) -> bytes:
    return _render_text(None, "info", msgspec.to_builtins(line))


def _without_values(_: Any, __: str, event: Any) -> Any:
    """Leave out of a trace what the database adds to its messages: the values that it did not like."""
    trace = event.get("exception")
    if isinstance(trace, str):
        event["exception"] = _VALUES.sub("", trace)
    return event


_VALUES = re.compile(r"\n(?:DETAIL|CONTEXT|HINT): .*|(?<=invalid input for query argument) \$\d+: .*")


def configure_logs(level: str = "info", style: Literal["auto", "json", "text"] = "json") -> None:
    """Write to standard output. Libraries' own records take the same way. `auto` is text at a terminal."""
    if style == "auto":
        style = "text" if sys.stdout.isatty() else "json"
    render = _render_text if style == "text" else _render_json
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    lines = Lines(sys.stdout.buffer, _encode if style == "json" else _request_as_text)
    atexit.register(lines.flush)
    requests.lines, requests.wanted = lines, number <= logging.INFO
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _without_values, render],
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
                _without_values,
                lambda logger, name, event: render(logger, name, event).decode(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


class Lines:
    """Writes the lines of a moment together, since a write for each costs a busy server more than making
    it does. Warnings and worse are written at once, with what came before them.

    The lines of requests are made then too: many in a row take a third of the time that one between other
    things does.
    """

    def __init__(
        self, file: BinaryIO, render: Callable[[RequestLine], bytes], moment_s: float = 0.05
    ) -> None:
        self._file = file
        self._render = render
        self._moment_s = moment_s
        self._kept: list[bytes | RequestLine] = []
        self._due: asyncio.TimerHandle | None = None

    def info(self, line: bytes | RequestLine) -> None:
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
            lines = [line if isinstance(line, bytes) else self._render(line) for line in kept]
            self._file.write(b"\n".join((*lines, b"")))
            self._file.flush()


class Requests:
    """The line that each request leaves. The logging library takes longer over it than most requests take."""

    def __init__(self) -> None:
        self.lines: Lines | None = None
        # Until somebody says where to.
        self.wanted = False

    def note(
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        request_id: str,
        user: str | None,
        cause: str | None,
        code: str | None,
    ) -> None:
        if self.wanted and self.lines is not None:
            at, ms = datetime.now(UTC), round(seconds * 1000, 1)
            self.lines.info(RequestLine("info", at, method, path, status, ms, request_id, user, cause, code))


# Shared, since standard output is.
requests = Requests()


def logger() -> Any:
    """The logger; bind nothing to it that a request owns."""
    return structlog.get_logger()
