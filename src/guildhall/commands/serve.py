"""`guildhall serve`: the API, the job worker and, where none is set, the database, run and stopped as one.

This process holds the database and watches over the others. They are told where everything is by their
environment, and each of them stops by itself when this process is gone.
"""

import http.client
import os
import sys
import threading
import time
from importlib import import_module
from typing import Annotated

from cyclopts import Parameter

from guildhall import __version__
from guildhall.commands import (
    DataDir,
    Problem,
    Stopped,
    database,
    interruptible,
    own_name,
    read,
    say,
    uninterrupted,
)
from guildhall.commands.children import DRAIN_S, JobWorker
from guildhall.commands.claims import Claim, Running, claim, reserve
from guildhall.commands.openers import try_to_open
from guildhall.commands.progress import Telling
from guildhall.commands.upkeep import bring_up_to_date
from guildhall.settings import PREFIX, Settings

READY_S = 60.0
WORKER_STOP_S = DRAIN_S + 1


def serve(
    *,
    host: Annotated[str | None, Parameter(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, Parameter(help="The port to listen on; 0 takes a free one. [default: 3002]")
    ] = None,
    workers: Annotated[int | None, Parameter(help="How many processes answer requests. [default: 1]")] = None,
    data_dir: DataDir = None,
    demo: Annotated[
        bool, Parameter(negative="", help="Fill an empty installation with demo content.")
    ] = False,
) -> None:
    """Run the API, the worker and, where no database is set, an embedded one, until Ctrl-C or SIGTERM."""
    began = time.monotonic()
    settings = read(data_dir, host=host, port=port, workers=workers)
    try:
        with interruptible(), claim(settings.data_dir) as mine:
            address, free_port = reserve(settings.host, settings.port)
            if settings.port == 0:
                settings = read(data_dir, host=host, port=free_port, workers=workers)
            _serve(settings, mine, address, demo=demo, began=began)
    except Stopped:
        # Nothing was accepted yet, so there was nothing to finish.
        sys.exit(0)


def _serve(settings: Settings, mine: Claim, address: str, *, demo: bool, began: float) -> None:
    stopping = Telling("Stopping; what was begun is finished first …")
    try:
        _run(settings, mine, address, stopping, demo=demo, began=began)
    finally:
        stopping.stop()


def _run(
    settings: Settings, mine: Claim, address: str, stopping: Telling, *, demo: bool, began: float
) -> None:
    embedded = settings.database.url is None
    # The database takes as long to start as the program to load; together they take half of that.
    with database(settings, meanwhile=lambda: _load(settings)) as running:
        _prepare(running, demo=demo)
        os.environ.update(_environment(running, embedded=embedded))
        from guildhall.commands.server import serve_http

        worker = JobWorker()
        announcer = _Announcer(running, mine, address, worker, embedded=embedded, demo=demo, began=began)
        stopped: list[float] = []

        def on_stop() -> None:
            if not stopped:
                stopping.start()
            stopped.append(time.monotonic())
            worker.ask_to_stop()

        try:
            announcer.start()
            well = serve_http(running, address, running.port, closing=(mine.descriptor,), on_stop=on_stop)
        finally:
            announcer.give_up()
            worker.stop((stopped or [time.monotonic()])[0] + WORKER_STOP_S)
        if not well:
            raise Problem("The processes that answer requests kept failing; the lines above say why.")


def _load(settings: Settings) -> None:
    """Import what the processes share, before they are forked. Raises Problem where they could not start."""
    import_module("guildhall.wiring")
    try_to_open(settings)


def _prepare(settings: Settings, *, demo: bool) -> None:
    bring_up_to_date(settings, say, allowed=True)
    from guildhall.instance import instance_secrets
    from guildhall.web.log import configure_logs

    # Made before there are several processes to make it.
    instance_secrets(settings)
    if demo:
        from guildhall.commands.demo import plant

        # Its requests are nobody's, and would bury what the terminal has to say.
        configure_logs("error", settings.log_format)
        uninterrupted(lambda: plant(settings, say))
    configure_logs(settings.log_level, settings.log_format)


def _environment(settings: Settings, *, embedded: bool) -> dict[str, str]:
    """What the processes are told beyond what we were told ourselves."""
    told = {
        "DATA_DIR": str(settings.data_dir),
        "HOST": settings.host,
        "PORT": str(settings.port),
        "WORKERS": str(settings.workers),
    }
    if embedded and settings.database.url is not None:
        told["DATABASE_URL"] = settings.database.url
        told["DATABASE_OWNER_URL"] = settings.database.owner_url or settings.database.url
    return {PREFIX + name: value for name, value in told.items()}


class _Announcer:
    """Waits for the first answer, then says where everything is and lets the job worker start."""

    def __init__(
        self,
        settings: Settings,
        mine: Claim,
        address: str,
        worker: JobWorker,
        *,
        embedded: bool,
        demo: bool,
        began: float,
    ) -> None:
        self._settings = settings
        self._mine = mine
        # What listens on every address of the machine answers on the nearest.
        self._address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
        self._worker = worker
        self._embedded = embedded
        self._somebody = "ada@demo.example" if demo else "you@example.org"
        self._began = began
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give_up(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._answers():
            if self._over.wait(0.02):
                return
            if time.monotonic() - self._began > READY_S:
                say("The service does not answer yet; it goes on trying.")
                return
        took_s = time.monotonic() - self._began
        self._mine.publish(Running(os.getpid(), self._url(), time.time()))
        self._worker.start()
        print(self._block(took_s), flush=True)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self._address, self._settings.port, timeout=2)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _url(self) -> str:
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self._settings.port}"

    def _block(self, took_s: float) -> str:
        settings = self._settings
        from guildhall.providers.email import OutboxOnly

        lines = [("Address", settings.public_url)]
        if (listening := self._url()) != settings.public_url.replace("localhost", "127.0.0.1"):
            lines.append(("Listening on", listening))
        if settings.docs:
            lines.append(("API documentation", f"{settings.public_url}/docs"))
        if settings.identity is None:
            lines.append(("Sign in", f"{settings.public_url}/sign-in"))
            data = f" --data-dir {settings.data_dir}"
            lines.append(("Get a token", f"{own_name()} token --email {self._somebody}{data}"))
        else:
            lines.append(("Sign in", f"at {settings.identity.issuer}"))
        if isinstance(settings.email, OutboxOnly):
            lines.append(("Mail", f"stays in {settings.email.folder}"))
        else:
            lines.append(("Mail", f"goes out by {type(settings.email).__name__}"))
        lines.append(("Data directory", str(settings.data_dir)))
        lines.append(("Database", "embedded PostgreSQL" if self._embedded else "the one of the settings"))
        width = max(len(name) for name, _ in lines) + 2
        rows = "\n".join(f"  {name:<{width}}{value}" for name, value in lines)
        return f"\nGuildhall {__version__} is ready after {took_s:.1f} s. Ctrl-C stops it.\n\n{rows}\n"
