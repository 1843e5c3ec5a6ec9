"""`guildhall check`: looks at the settings and at everything they lead to; says what is wrong and what to do.

It changes nothing, works while the service runs and before its first start, and tells all problems at once.
"""

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

from guildhall.commands import DataDir, Problem, database, own_name, owner_url, telling, try_to_read
from guildhall.commands.claims import Running, find_running
from guildhall.commands.tables import several
from guildhall.settings import Settings, SettingsError

ENOUGH_BYTES = 512 * 1024 * 1024


class Report:
    """Prints one line for each thing that was looked at, as soon as it is known."""

    def __init__(self) -> None:
        self.problems = 0
        self._name = ""

    def about(self, name: str) -> None:
        self._name = name

    def well(self, text: str) -> None:
        self._print("ok", text)

    def problem(self, text: str) -> None:
        self.problems += 1
        self._print("problem", text)

    def _print(self, mark: str, text: str) -> None:
        first, *more = text.splitlines() or [""]
        print(f"{mark:<9}{self._name:<16}{first}")
        for line in more:
            print(" " * 25 + line)
        sys.stdout.flush()


def check(*, data_dir: DataDir = None) -> None:
    """Say for each part of the installation whether it is well and, if not, what to do. Exit 1 if not."""
    report = Report()
    with telling("Looking …"):
        report.about("Settings")
        try:
            settings = try_to_read(data_dir)
        except SettingsError as error:
            for problem in error.problems:
                report.problem(problem)
            report.about("The rest")
            report.problem("was not looked at; it depends on the settings. Correct them first.")
        else:
            report.well(_origin_of(settings))
            _check_folder(settings, report)
            _check_secret(settings, report)
            running = _check_service(settings, report)
            with _any_database(settings, report) as reachable:
                asyncio.run(_check_rest(reachable or settings, reachable is not None, running, report))
    if report.problems:
        raise Problem(f"{several(report.problems, 'problem')}; the lines above say what to do.")


def _origin_of(settings: Settings) -> str:
    file = Path(os.environ.get("GUILDHALL_CONFIG") or settings.data_dir / "guildhall.toml")
    what = "for production" if settings.mode == "production" else "for development"
    return f"{what}, from the environment{f' and {file}' if file.exists() else ''}"


def _check_folder(settings: Settings, report: Report) -> None:
    report.about("Data directory")
    folder = settings.data_dir
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        report.problem(f"{nearest} cannot be written to. Change its owner, or choose another --data-dir.")
        return
    well = True
    if (free := shutil.disk_usage(nearest).free) < ENOUGH_BYTES:
        well = False
        report.problem(f"{folder} has {free >> 20} MiB left on its disk. Make room for at least 512 MiB.")
    for private in (folder / "guildhall.toml", folder / "secret", folder / "secret.previous"):
        if private.exists() and stat.S_IMODE(private.stat().st_mode) & 0o077:
            well = False
            report.problem(f"{private} can be read by others. Run: chmod 600 {private}")
    if well:
        report.well(str(folder) if folder.exists() else f"{folder}, which the first start makes")


def _check_secret(settings: Settings, report: Report) -> None:
    from guildhall.instance import kept_secrets
    from guildhall.keys import MINIMUM_BYTES

    report.about("Secret")
    if settings.secrets:
        changing = ", and the one before it" if len(settings.secrets) > 1 else ""
        report.well(f"from the settings{changing}")
        return
    try:
        kept = kept_secrets(settings.data_dir)
    except OSError as error:
        report.problem(f"cannot be read: {error.strerror}. Run this as the user who runs the service.")
        return
    if any(len(secret) < MINIMUM_BYTES for secret in kept):
        report.problem(
            "is damaged. Bring the file `secret` back from a backup; without it, remove the file: then"
            " everybody signs in anew, and links in mails stop working."
        )
    elif not kept:
        report.well("the first start makes one")
    elif len(kept) > 1:
        report.well(
            "in the data directory; the one before it still holds. In time run:"
            f" {own_name()} rotate-secret --finish"
        )
    else:
        report.well("in the data directory")


def _check_service(settings: Settings, report: Report) -> Running | None:
    report.about("Service")
    running = find_running(settings.data_dir)
    report.well(f"runs at {running.address}, process {running.pid}" if running else "does not run")
    return running


@contextmanager
def _any_database(settings: Settings, report: Report) -> Generator[Settings | None]:
    """The settings with a database that answers; None when there is none, and the report says why."""
    report.about("Database")
    if settings.database.url is None and not (settings.data_dir / "postgres").exists():
        from guildhall.providers.postgres import EmbeddedPostgresFailed
        from guildhall.providers.postgres.wheel import software

        try:
            software()
            report.well("embedded; the first start makes it")
        except EmbeddedPostgresFailed as error:
            report.problem(str(error))
        yield None
        return
    opened = database(settings)
    try:
        reachable = opened.__enter__()
    except Problem as problem:
        report.problem(str(problem))
        yield None
        return
    try:
        yield reachable
    finally:
        opened.__exit__(None, None, None)


async def _check_rest(settings: Settings, reachable: bool, running: Running | None, report: Report) -> None:
    from guildhall.commands import check_data, check_providers

    # Each of the providers may take its ten seconds; together they take them once.
    providers = [
        (name, asyncio.create_task(_all_of(looking)))
        for name, looking in check_providers.everything(settings)
    ]
    if reachable:
        await check_data.look(settings, owner_url(settings), running, report)
    for name, looking in providers:
        report.about(name)
        for text, well in await looking:
            (report.well if well else report.problem)(text)


async def _all_of(looking: AsyncGenerator[tuple[str, bool]]) -> list[tuple[str, bool]]:
    lines: list[tuple[str, bool]] = []
    try:
        async for line in looking:
            lines.append(line)
    except Problem as problem:
        lines.append((str(problem), False))
    except Exception as error:
        # One that fails in a way nobody foresaw must not hide what the others found.
        lines.append((f"could not be looked at: {type(error).__name__}: {error}", False))
    return lines
