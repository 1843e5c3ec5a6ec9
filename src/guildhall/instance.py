"""What makes this installation itself: its secret, the keys that come from it, and the name of its issuer."""

import contextlib
import os
import secrets
from pathlib import Path

from guildhall.keys import MINIMUM_BYTES, Keys
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.secret import Secret
from guildhall.settings import Settings, SettingsError

# Not the public address: accounts are known by issuer and subject, and must survive a move to another one.
ISSUER = "guildhall"


def instance_secrets(settings: Settings) -> tuple[Secret[bytes], ...]:
    """The secrets all keys come from, the current one first: the settings', or those kept beside the data.

    Raises SettingsError when the kept one is damaged.
    """
    if settings.secrets:
        return settings.secrets
    kept = kept_secrets(settings.data_dir) or (_first_secret(settings.data_dir),)
    if any(len(secret) < MINIMUM_BYTES for secret in kept):
        raise SettingsError(
            [f"The secret in {secret_file(settings.data_dir)} is damaged. See: guildhall check"]
        )
    return tuple(Secret(secret) for secret in kept)


def instance_keys(settings: Settings) -> Keys:
    return Keys([secret.reveal() for secret in instance_secrets(settings)])


def embedded_issuer(keys: Keys) -> SessionIssuer:
    """Who signs the sessions of people who sign in here."""
    return SessionIssuer(ISSUER, keys.derive("sessions"))


def secret_file(data_dir: Path) -> Path:
    """Where an installation without a secret in its settings keeps its own."""
    return data_dir / "secret"


def previous_secret_file(data_dir: Path) -> Path:
    """Where the secret before it stays good for what it made."""
    return data_dir / "secret.previous"


def kept_secrets(data_dir: Path) -> tuple[bytes, ...]:
    """The data directory's own secrets, the current first; none before the first start. Raises OSError."""
    found: list[bytes] = []
    for path in (secret_file(data_dir), previous_secret_file(data_dir)):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.read_bytes().strip())
    return tuple(found)


def new_secret() -> bytes:
    return secrets.token_hex(32).encode()


def write_secret(path: Path, secret: bytes, *, replace: bool = False) -> None:
    """Write it whole and for its owner's eyes alone. Leaves what is there unless told to `replace` it."""
    # Written beside its place first: whoever finds it finds all of it, and of two makers one wins.
    making = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            making.rename(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(making, path)
    finally:
        making.unlink(missing_ok=True)
    give_to_owner(path.parent, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def give_to_owner(folder: Path, *paths: Path) -> None:
    """What root makes in somebody's folder stays usable for that person."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _first_secret(data_dir: Path) -> bytes:
    """The data directory's own secret, made at the first start."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(secret_file(data_dir), new_secret())
    return secret_file(data_dir).read_bytes().strip()
