"""What makes this installation itself: its secret, the keys that come from it, and the name of its issuer."""

import contextlib
import os
import secrets
from pathlib import Path

from guildhall.keys import Keys
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.secret import Secret
from guildhall.settings import Settings

# Not the public address: accounts are known by issuer and subject, and must survive a move to another one.
ISSUER = "guildhall"


def instance_secrets(settings: Settings) -> tuple[Secret[bytes], ...]:
    """The secrets that all keys come from: the settings', or the one kept beside the data."""
    return settings.secrets or (Secret(_kept_secret(settings.data_dir)),)


def instance_keys(settings: Settings) -> Keys:
    return Keys([secret.reveal() for secret in instance_secrets(settings)])


def embedded_issuer(keys: Keys) -> SessionIssuer:
    """Who signs the sessions of people who sign in here."""
    return SessionIssuer(ISSUER, keys.derive("sessions"))


def secret_file(data_dir: Path) -> Path:
    """Where an installation without a secret in its settings keeps its own."""
    return data_dir / "secret"


def _kept_secret(data_dir: Path) -> bytes:
    """The data directory's own secret, made at the first start, readable by its owner alone."""
    path = secret_file(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return path.read_bytes().strip()
    except FileNotFoundError:
        pass
    # Written beside its place first: whoever finds it finds all of it, and of two makers one wins.
    making = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(making, path)
    finally:
        making.unlink()
    return path.read_bytes().strip()
