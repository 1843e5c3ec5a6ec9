"""The command line. Each command is imported only when it is asked for, so that all of them start quickly."""

import os
import signal
import sys

from cyclopts import App, Group

from guildhall import __version__
from guildhall.commands import Problem, Stopped
from guildhall.settings import SettingsError

_USE = Group("Use a server, here or elsewhere", sort_key=1)
_RUN = Group("Run one", sort_key=2)
_KEEP = Group("Keep it well", sort_key=3)
_ACT = Group("Act as the operator", sort_key=4)

_COMMANDS = {
    _USE: {
        "recall": ("memory:recall", "Find what is known, the best first, with the reasons why."),
        "ask": ("memory:ask", "Answer a question in sentences that memories hold word for word."),
        "push": ("memory:push", "Keep something worth knowing in a hub."),
        "hub": ("memory:hub", "List your hubs, choose the one to use, or make one."),
        "login": ("memory:login", "Keep a server's address and an API key for these commands."),
    },
    _RUN: {
        "serve": ("serve:serve", "Run the API, the worker and, where none is set, an embedded database."),
        "worker": ("worker:worker", "Run one more worker, here or on another machine."),
    },
    _KEEP: {
        "check": ("check:check", "Look at the installation, and say what is wrong and what to do."),
        "migrate": ("upkeep:migrate", "Bring the database's tables up to this release."),
        "backup": ("backup:backup", "Write everything people have put in into one file."),
        "restore": ("backup:restore", "Fill an empty installation from a backup."),
        "release": ("upkeep:release", "Let mail go out again, which a restore has held."),
        "rotate-secret": (
            "upkeep:rotate_secret",
            "Make a new instance secret, with the old one still valid.",
        ),
        "eval": (
            "evaluate:evaluate",
            "Ask a server questions whose answers are known, and say how many it finds.",
        ),
        "embeddings": (
            "embeddings:embeddings",
            "Make the model for recall by meaning.",
        ),
        "jobs": ("jobs:jobs", "List jobs that were given up, or try them again."),
    },
    _ACT: {
        "token": ("people:token", "Print a session token for a person, who is made on first use."),
        "users": ("people:users", "Disable or enable a person's account."),
        "revoke-invites": ("upkeep:revoke_invites", "Take back every open invite."),
        "communities": ("content:communities", "List communities, or bring a deleted one back."),
        "backlog": ("content:backlog", "List what was deleted from the backlog, or bring it back."),
    },
}


def build() -> App:
    """The command line as cyclopts sees it."""
    app = App(
        name="guildhall", version=__version__, help="A self-hosted home for communities and their hubs."
    )
    for group, commands in _COMMANDS.items():
        for name, (path, summary) in commands.items():
            app.command(f"guildhall.commands.{path}", name=name, help=summary, group=group)
    return app


def main() -> None:
    try:
        try:
            build()()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has read enough, as `head` does. Nothing more is written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Problem, SettingsError) as problem:
        print(f"guildhall: {problem}", file=sys.stderr)
        sys.exit(1)
    except PermissionError as error:
        print(
            f"guildhall: {error.filename or error}: permission denied."
            " Run this as the user who runs the service, or choose another --data-dir.",
            file=sys.stderr,
        )
        sys.exit(1)
    except (Stopped, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
