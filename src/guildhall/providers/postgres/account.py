"""Under which account the embedded PostgreSQL runs, and that this account reaches what it needs.

PostgreSQL refuses to run as root. An ordinary user simply runs it as itself; root runs it as whoever owns the
data folder, or as a system account of its own, and then has to open a way there through folders closed to
others.
"""

import contextlib
import os
import pwd
import shutil
import stat
import struct
import subprocess
import time
from pathlib import Path

from guildhall.providers.postgres.errors import EmbeddedPostgresFailed

SYSTEM_ACCOUNT = "guildhall-db"

# The access control list of a file as Linux keeps it: a version, then (tag, permissions, id) in order of the
# tags.
_ACL = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_PASS = 1


def choose_account(data_dir: Path, pgdata: Path) -> pwd.struct_passwd:
    """The account PostgreSQL runs under. Raises EmbeddedPostgresFailed when there is none."""
    me = os.geteuid()
    if me != 0:
        if pgdata.exists() and pgdata.stat().st_uid != me:
            raise EmbeddedPostgresFailed(
                f"The database in {pgdata} belongs to {_name(pgdata.stat().st_uid)}. Run this command as"
                " that user, or as root if the service runs as root."
            )
        return _account(me)
    for path in (pgdata, data_dir):
        if path.exists() and (owner := path.stat().st_uid) != 0:
            return _account(owner)
    return _system_account()


def _account(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresFailed(
            f"PostgreSQL cannot run as user id {uid}, which has no name on this machine. Add a user with"
            " that id, or set DATABASE_URL to a database of your own."
        ) from None


def _name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"


def _system_account() -> pwd.struct_passwd:
    # Another command may be adding the same account at this moment, and only one may edit the list of users.
    for _ in range(20):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_ACCOUNT)
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            break
        subprocess.run(
            [
                useradd,
                "--system",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/bin/false",
                SYSTEM_ACCOUNT,
            ],
            check=False,
            capture_output=True,
        )
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_ACCOUNT)
        time.sleep(0.1)
    raise EmbeddedPostgresFailed(
        f"PostgreSQL does not run as root, and the account {SYSTEM_ACCOUNT} could not be added for it. Run"
        f" Guildhall as an ordinary user, or add the account yourself: useradd --system {SYSTEM_ACCOUNT}."
    )


def open_the_way(path: Path, account: pwd.struct_passwd) -> None:
    """Let `account` pass through every folder above `path`, as narrowly as the file system can express it.

    Passing is not listing or reading. Where access control lists work, only this account gets it.
    """
    for folder in path.parents:
        if not _may_pass(folder, account):
            try:
                _grant_passage(folder, account.pw_uid)
            except (OSError, AttributeError):
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)


def make_readable(tree: Path) -> None:
    """Let everybody read installed software again, which a strict umask at installation prevented."""
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | (0o055 if path.is_dir() or mode & stat.S_IXUSR else 0o044)
        if wanted != mode:
            path.chmod(wanted)


def _may_pass(folder: Path, account: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    entries = _read_acl(folder)
    own = next((allowed for tag, allowed, uid in entries if tag == _USER and uid == account.pw_uid), None)
    if own is not None:
        mask = next((allowed for tag, allowed, _ in entries if tag == _MASK), 7)
        return bool(own & mask & _PASS)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _read_acl(folder: Path) -> list[tuple[int, int, int]]:
    try:
        raw = os.getxattr(folder, _ACL)
    except (OSError, AttributeError):
        return []
    return [(tag, allowed, uid) for tag, allowed, uid in _ENTRY.iter_unpack(raw[len(_VERSION) :])]


def _grant_passage(folder: Path, uid: int) -> None:
    mode = folder.stat().st_mode
    entries = _read_acl(folder) or [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        (_GROUP_OBJ, mode >> 3 & 7, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    ]
    mask = next((allowed for tag, allowed, _ in entries if tag == _MASK), mode >> 3 & 7)
    kept = [entry for entry in entries if entry[0] != _MASK and (entry[0], entry[2]) != (_USER, uid)]
    entries = sorted(
        [*kept, (_USER, _PASS, uid), (_MASK, mask | _PASS, _NO_ID)], key=lambda entry: (entry[0], entry[2])
    )
    os.setxattr(folder, _ACL, _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries))
