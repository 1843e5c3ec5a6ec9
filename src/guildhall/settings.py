"""The settings: the environment over one TOML file, read once into one frozen value.

Nothing else reads the environment. Every problem is reported at once, with what to do. A secret has no
default; an external service that is asked for and not fully described is a problem, never a fallback.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from guildhall.db.migrate import APP_ROLE
from guildhall.keys import MINIMUM_BYTES
from guildhall.providers.blobs import BlobsSettings
from guildhall.providers.chat import ChatSettings
from guildhall.providers.email import EmailSettings, OutboxOnly, Resend, Smtp
from guildhall.providers.embeddings import EmbeddingServer, EmbeddingsSettings, LocalModel
from guildhall.providers.identity import Clerk
from guildhall.secret import Secret
from guildhall.settings_about import nearest

T = TypeVar("T")

PREFIX = "GUILDHALL_"
# Different ones in a secret: chance hardly ever chooses fewer.
FEWEST_CHARACTERS = 8

Mode: TypeAlias = Literal["development", "production"]
LogFormat: TypeAlias = Literal["auto", "json", "text"]


class SettingsError(Exception):
    """What is wrong with the settings: one sentence for each, naming the variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Database(msgspec.Struct, frozen=True):
    """Where PostgreSQL is. `url` None means the embedded one. `owner_url` is for migrations.

    The application uses `app_url` and `app_read_url`. They are the same addresses or, where the owner of the
    tables has none of its own, say that the session lays that power down at once.
    """

    url: str | None
    owner_url: str | None
    read_url: str | None
    pool: int

    @property
    def app_url(self) -> str | None:
        return self._as_application(self.url)

    @property
    def app_read_url(self) -> str | None:
        return self._as_application(self.read_url)

    def _as_application(self, url: str | None) -> str | None:
        if url is None or self.owner_url is not None:
            return url
        return f"{url}{'&' if urlsplit(url).query else '?'}role={APP_ROLE}"


class Settings(msgspec.Struct, frozen=True):
    data_dir: Path
    mode: Mode
    name: str
    about: str | None
    host: str
    port: int
    workers: int
    public_url: str
    database: Database
    secrets: tuple[Secret[bytes], ...]
    identity: Clerk | None
    chat: ChatSettings | None
    email: EmailSettings
    blobs: BlobsSettings
    blob_hosts: frozenset[str]
    embeddings: EmbeddingsSettings | None
    origins: frozenset[str]
    trusted_proxies: frozenset[str]
    operators: frozenset[str]
    backlog_open: bool
    rate_limit_scale: float
    log_level: str
    log_format: LogFormat
    metrics: bool
    docs: bool
    most_owned_hubs: int | None
    most_hub_members: int | None
    monthly_pushes: int | None
    monthly_recalls: int | None
    monthly_asks: int | None
    redis_url: Secret[str] | None
    most_hub_memories: int | None


class _Env:
    """Reads one variable after another and collects what is wrong."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._used: set[str] = set()
        self.problems: list[str] = []

    def get(self, name: str) -> str | None:
        self._used.add(name)
        value = self._values.get(name, "").strip()
        return value or None

    def need(self, name: str, why: str) -> str:
        value = self.get(name)
        if value is None:
            self.problem(name, f"is not set, but {why}.")
            return ""
        return value

    def problem(self, name: str, what: str) -> None:
        self.problems.append(f"{PREFIX}{name} {what}")

    def read(self, name: str, default: T, convert: Callable[[str], T], expected: str) -> T:
        value = self.get(name)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError:
            self.problem(name, f"is not {expected}.")
            return default

    def number(self, name: str, default: int, low: int, high: int) -> int:
        def convert(text: str) -> int:
            value = int(text)
            if not low <= value <= high:
                raise ValueError
            return value

        return self.read(name, default, convert, f"a whole number from {low} to {high}")

    def flag(self, name: str, default: bool) -> bool:
        def convert(text: str) -> bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                text.lower()
            ]

        return self.read(name, default, _keyed(convert), "true or false")

    def pick(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.get(name) or choices[0]
        if value not in choices:
            self.problem(name, f"is not one of {', '.join(choices)}.")
            return choices[0]
        return value

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in (self.get(name) or "").split(",") if word.strip())

    def secret(self, name: str, why: str) -> Secret[str]:
        return Secret(self.need(name, why))

    def make(self, name: str, maker: Callable[[], T]) -> T | None:
        """Build a provider's settings; its own complaint becomes a problem."""
        try:
            return maker()
        except ValueError as error:
            self.problem(name, f"and its kin do not fit together: {error}.")
            return None

    def unknown(self) -> list[str]:
        return sorted(set(self._values) - self._used)


def _keyed(convert: Callable[[str], T]) -> Callable[[str], T]:
    def tolerant(text: str) -> T:
        try:
            return convert(text)
        except KeyError as error:
            raise ValueError from error

    return tolerant


def read_settings(environ: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `overrides` are the command line's. Raises SettingsError naming every problem."""
    given = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX)}
    given |= overrides or {}
    problems: list[str] = []
    values = _file_values(given, problems) | given
    env = _Env(values)
    env.problems.extend(problems)
    env.get("CONFIG")
    # For the commands that use a server, which may be this one.
    env.get("URL")
    env.get("KEY")

    data_dir = Path(env.get("DATA_DIR") or ".data").expanduser().absolute()
    mode: Any = env.pick("MODE", ("development", "production"))
    port = env.number("PORT", 3002, 0, 65535)
    log_format: Any = env.pick("LOG_FORMAT", ("auto", "json", "text"))
    public_url = (env.get("PUBLIC_URL") or f"http://localhost:{port}").rstrip("/")
    if urlsplit(public_url).scheme not in ("http", "https") or not urlsplit(public_url).hostname:
        env.problem("PUBLIC_URL", "is not an http or https address.")

    settings = Settings(
        data_dir=data_dir,
        mode=mode,
        name=env.get("NAME") or "Guildhall",
        about=env.get("ABOUT"),
        host=env.get("HOST") or "127.0.0.1",
        port=port,
        workers=env.number("WORKERS", 1, 1, 64),
        public_url=public_url,
        database=_database(env),
        secrets=_secrets(env),
        identity=_identity(env, public_url),
        chat=_chat(env),
        email=_email(env, data_dir, console=mode == "development"),
        blobs=_blobs(env, data_dir),
        embeddings=_embeddings(env, data_dir),
        blob_hosts=frozenset(host.lower() for host in env.words("BLOB_HOSTS")),
        origins=frozenset((*env.words("ALLOWED_ORIGINS"), _origin(public_url))),
        trusted_proxies=frozenset(env.words("TRUSTED_PROXIES")),
        operators=frozenset(address.lower() for address in env.words("OPERATORS")),
        backlog_open=env.pick("BACKLOG_WRITES", ("open", "closed")) == "open",
        rate_limit_scale=env.read("RATE_LIMIT_SCALE", 1.0, _scale, "a number from 0 (no limit) upwards"),
        log_level=env.pick("LOG_LEVEL", ("info", "debug", "warning", "error")),
        log_format=log_format,
        metrics=env.flag("METRICS", False),
        docs=env.flag("DOCS", mode != "production"),
        most_owned_hubs=env.number("MAX_OWNED_HUBS", 100, 0, 1_000_000) or None,
        most_hub_members=env.number("MAX_HUB_MEMBERS", 0, 0, 1_000_000) or None,
        monthly_pushes=env.number("MONTHLY_PUSHES", 0, 0, 1_000_000_000) or None,
        monthly_recalls=env.number("MONTHLY_RECALLS", 0, 0, 1_000_000_000) or None,
        monthly_asks=env.number("MONTHLY_ASKS", 0, 0, 1_000_000_000) or None,
        redis_url=_redis(env),
        most_hub_memories=env.number("MAX_HUB_MEMORIES", 0, 0, 1_000_000_000) or None,
    )
    if mode == "production":
        _insist(env, settings)
    for name in env.unknown():
        env.problem(name, _why_unknown(name))
    if env.problems:
        raise SettingsError(env.problems)
    return settings


def _insist(env: _Env, settings: Settings) -> None:
    """What will do while one tries things, and will not where people rely on it."""
    if env.get("PUBLIC_URL") is None:
        env.problem("PUBLIC_URL", "is not set, but links in mails need it in production.")
    elif not settings.public_url.startswith("https://"):
        env.problem("PUBLIC_URL", "is not an https address, so in production sessions could be overheard.")
    if env.get("EMAIL") in (None, "outbox"):
        env.problem("EMAIL", "is outbox, which sends nothing. In production, set it to resend or smtp.")
    if settings.rate_limit_scale == 0:
        env.problem("RATE_LIMIT_SCALE", "is 0, but without limits anybody can wear the service out.")
    for name in ("SECRET", "SECRET_PREVIOUS"):
        secret = env.get(name)
        if secret is not None and len(set(secret)) < FEWEST_CHARACTERS:
            env.problem(name, "can be guessed. Make one with: openssl rand -hex 32")
    clerk = settings.identity and settings.identity.secret_key
    if clerk and clerk.reveal().startswith("sk_test_"):
        env.problem("CLERK_SECRET_KEY", "is a key for trying things. Production has one of its own.")


def _why_unknown(name: str) -> str:
    near = nearest(name)
    if near == name:
        return "is set, but with the other settings nothing reads it."
    meant = f"Is it {PREFIX}{near}?" if near else "Look for a typing error."
    return f"is not a setting of this release. {meant}"


def _file_values(given: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The TOML file's values under the same names: CONFIG names it, or it lies in the data directory."""
    named = given.get("CONFIG")
    path = Path(named) if named else Path(given.get("DATA_DIR") or ".data") / "guildhall.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            problems.append(f"{PREFIX}CONFIG names a file that is not there: {path}")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"The settings file {path} cannot be read: {error}")
        return {}
    values: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, bool):
            values[key.upper()] = "true" if value else "false"
        elif isinstance(value, (str, int, float)):
            values[key.upper()] = str(value)
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            values[key.upper()] = ",".join(str(item) for item in items)
        else:
            problems.append(f"The settings file {path} gives {key} a table; a plain value is expected.")
    return values


def _database(env: _Env) -> Database:
    url = env.get("DATABASE_URL")
    owner_url = env.get("DATABASE_OWNER_URL")
    read_url = env.get("DATABASE_READ_URL")
    for name, value in (
        ("DATABASE_URL", url),
        ("DATABASE_OWNER_URL", owner_url),
        ("DATABASE_READ_URL", read_url),
    ):
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            env.problem(name, "does not begin with postgresql://.")
    if url is None and (owner_url or read_url):
        env.problem("DATABASE_URL", "is not set, but another address of the database is.")
    return Database(url, owner_url, read_url, env.number("DATABASE_POOL", 10, 2, 200))


def _redis(env: _Env) -> Secret[str] | None:
    url = env.get("REDIS_URL")
    if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
        env.problem("REDIS_URL", "does not begin with redis://, rediss:// or unix://.")
    return Secret(url) if url else None


def _secrets(env: _Env) -> tuple[Secret[bytes], ...]:
    """The instance secrets, the current one first; none means that the data directory holds one."""
    found: list[Secret[bytes]] = []
    for name in ("SECRET", "SECRET_PREVIOUS"):
        value = env.get(name)
        if value is None:
            continue
        if len(value.encode()) < MINIMUM_BYTES:
            env.problem(name, f"is shorter than {MINIMUM_BYTES} bytes. Make one with: openssl rand -hex 32")
        found.append(Secret(value.encode()))
    if env.get("SECRET") is None and env.get("SECRET_PREVIOUS") is not None:
        env.problem("SECRET", "is not set, but the previous one is.")
    return tuple(found)


def _identity(env: _Env, public_url: str) -> Clerk | None:
    if env.pick("IDENTITY", ("embedded", "clerk")) == "embedded":
        return None
    why = "GUILDHALL_IDENTITY is clerk"
    issuer = env.need("CLERK_ISSUER", why)
    secret_key = env.get("CLERK_SECRET_KEY")
    return env.make(
        "CLERK_ISSUER",
        lambda: Clerk(
            issuer=issuer,
            secret_key=Secret(secret_key) if secret_key else None,
            jwks_url=env.get("CLERK_JWKS_URL"),
            pinned_key=env.get("CLERK_JWT_KEY"),
            authorized_parties=env.words("CLERK_AUTHORIZED_PARTIES") or (_origin(public_url),),
            webhook_secrets=tuple(Secret(word) for word in env.words("CLERK_WEBHOOK_SECRETS")),
            api_url=env.get("CLERK_API_URL") or "https://api.clerk.com/v1",
            sign_in_url=env.get("CLERK_SIGN_IN_URL"),
        ),
    )


def _chat(env: _Env) -> ChatSettings | None:
    key, secret, url = env.get("CHAT_KEY"), env.get("CHAT_SECRET"), env.get("CHAT_URL")
    if not (key or secret or url):
        return None
    why = "another setting of the chat service is"
    api_key, api_secret = env.need("CHAT_KEY", why), env.need("CHAT_SECRET", why)
    if api_secret and len(api_secret.encode()) < MINIMUM_BYTES:
        env.problem("CHAT_SECRET", f"is shorter than {MINIMUM_BYTES} bytes.")
    return env.make(
        "CHAT_URL",
        lambda: ChatSettings(url or "https://chat.stream-io-api.com", api_key, Secret(api_secret)),
    )


def _email(env: _Env, data_dir: Path, *, console: bool) -> EmailSettings:
    sender = env.get("EMAIL_FROM")
    outbox = OutboxOnly(data_dir / "outbox", sender or "Guildhall <guildhall@localhost>", console)
    match env.pick("EMAIL", ("outbox", "resend", "smtp")):
        case "resend":
            why = "GUILDHALL_EMAIL is resend"
            key, sender = env.secret("RESEND_API_KEY", why), env.need("EMAIL_FROM", why)
            base = env.get("RESEND_URL")
            made = env.make("EMAIL_FROM", lambda: Resend(key, sender, base) if base else Resend(key, sender))
        case "smtp":
            why = "GUILDHALL_EMAIL is smtp"
            host, sender = env.need("SMTP_HOST", why), env.need("EMAIL_FROM", why)
            port = env.number("SMTP_PORT", 587, 1, 65535)
            password = env.get("SMTP_PASSWORD")
            security: Any = env.pick("SMTP_SECURITY", ("starttls", "tls", "none"))
            username = env.get("SMTP_USERNAME")
            made = env.make(
                "SMTP_HOST",
                lambda: Smtp(
                    host=host,
                    sender=sender,
                    port=port,
                    username=username,
                    password=Secret(password) if password else None,
                    security=security,
                ),
            )
        case _:
            made = outbox
    return made or outbox


def _blobs(env: _Env, data_dir: Path) -> BlobsSettings:
    url = env.get("BLOBS_URL") or (data_dir / "blobs").as_uri()
    options: dict[str, Secret[str]] = {}
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "ENDPOINT"):
        if (value := env.get(f"BLOBS_{name}")) is not None:
            options[name.lower()] = Secret(value)
    if "endpoint" in options and options["endpoint"].reveal().startswith("http://"):
        # The store's client wants to be told that a plain connection, as within a machine, is meant.
        options["allow_http"] = Secret("true")
    return BlobsSettings(url, options)


def _embeddings(env: _Env, data_dir: Path) -> EmbeddingsSettings | None:
    match env.pick("EMBEDDINGS", ("none", "local", "server")):
        case "local":
            return LocalModel(Path(env.get("EMBEDDINGS_FOLDER") or data_dir / "embeddings").expanduser())
        case "server":
            why = "GUILDHALL_EMBEDDINGS is server"
            url, model = env.need("EMBEDDINGS_URL", why), env.need("EMBEDDINGS_MODEL", why)
            if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                env.problem("EMBEDDINGS_URL", "is not an http or https address.")
            key = env.get("EMBEDDINGS_KEY")
            return EmbeddingServer(url, model, Secret(key) if key else None)
        case _:
            return None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _scale(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError
    return value
