"""What each setting means, for the documentation and for whoever mistypes one."""

from collections.abc import Mapping
from difflib import get_close_matches

import msgspec


class Setting(msgspec.Struct, frozen=True):
    """One setting, by its name without prefix. `default` is what holds without it, as it would be written."""

    name: str
    default: str
    about: str


GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "The installation": (
        Setting(
            "DATA_DIR",
            ".data",
            "The folder for the embedded database, files, the outbox and the secret.",
        ),
        Setting(
            "CONFIG",
            "",
            "The settings file. Without it, `guildhall.toml` in the data directory is read if it is there.",
        ),
        Setting(
            "MODE",
            "development",
            "`development`, or `production`: it insists on an https address, on mail that is sent, on rate "
            "limits and on secrets that cannot be guessed, and serves no descriptions of the APIs unasked.",
        ),
        Setting("NAME", "Guildhall", "What this service is called on its pages."),
        Setting("ABOUT", "", "What its home page says of it to somebody who is not signed in."),
        Setting(
            "SECRET",
            "",
            "At least 32 bytes, from which the keys of tokens, links and kept answers are derived. "
            "Without it, one is made in the data directory at the first start. All processes need the "
            "same.",
        ),
        Setting(
            "SECRET_PREVIOUS",
            "",
            "The secret before this one: what was signed or sealed with it is still taken while it is set.",
        ),
        Setting(
            "OPERATORS",
            "",
            "Addresses of the people who run this service, separated by commas. They see the "
            "operators' pages.",
        ),
    ),
    "The network": (
        Setting("HOST", "127.0.0.1", "The address to listen on."),
        Setting("PORT", "3002", "The port to listen on; 0 takes a free one."),
        Setting("WORKERS", "1", "How many processes answer requests, 1 to 64."),
        Setting(
            "PUBLIC_URL",
            "http://localhost:3002",
            "Where people reach the service. Links in mails begin with it, whatever host a request "
            "names. Required in production. With https, browsers are told to come back by https "
            "alone.",
        ),
        Setting(
            "ALLOWED_ORIGINS",
            "",
            "Origins of web apps elsewhere that may call `/api` with a session cookie, separated by "
            "commas, such as `https://app.guild.example`. The public address is always among them.",
        ),
        Setting(
            "TRUSTED_PROXIES",
            "",
            "Network addresses of your proxies, separated by commas. The last address in their "
            "X-Forwarded-For is taken for the client's; from anybody else that header is ignored.",
        ),
    ),
    "The database": (
        Setting(
            "DATABASE_URL",
            "",
            "`postgresql://…` of the role that the service works as. Without it, PostgreSQL is run in "
            "the data directory.",
        ),
        Setting(
            "DATABASE_OWNER_URL",
            "",
            "The same database as the role that owns the tables, for `guildhall migrate`, and for the "
            "worker to build the indexes of large hubs that recall by meaning.",
        ),
        Setting("DATABASE_READ_URL", "", "A replica for reads."),
        Setting(
            "REDIS_URL",
            "",
            "`redis://…`, `rediss://…` or `unix://…`: by way of it processes tell each other of events, "
            "instead of through the database. Needs the extra `redis`.",
        ),
        Setting("DATABASE_POOL", "10", "Connections in each of a process's two pools, 2 to 200."),
    ),
    "Recall by meaning": (
        Setting(
            "EMBEDDINGS",
            "none",
            "`none` recalls by words alone; `local` also by meaning, with a small model in the service's own "
            "processes; `server` has a server make the vectors.",
        ),
        Setting(
            "EMBEDDINGS_FOLDER",
            "",
            "With `local`: where the model is that `guildhall embeddings install` makes. Without it, "
            "`embeddings` in the data directory.",
        ),
        Setting(
            "EMBEDDINGS_URL",
            "",
            "With `server`: the address texts are posted to, such as `https://…/v1/embeddings`.",
        ),
        Setting("EMBEDDINGS_MODEL", "", "With `server`: the model, one that makes 384 numbers."),
        Setting("EMBEDDINGS_KEY", "", "With `server`: the key that is sent along."),
    ),
    "Sign-in": (
        Setting("IDENTITY", "embedded", "`embedded` mails codes; `clerk` leaves sign-in to Clerk."),
        Setting("CLERK_ISSUER", "", "The address of your Clerk instance, as in its tokens."),
        Setting("CLERK_SECRET_KEY", "", "Lets the service read profiles from Clerk."),
        Setting(
            "CLERK_WEBHOOK_SECRETS",
            "",
            "Secrets of the webhook, separated by commas while one is replaced.",
        ),
        Setting(
            "CLERK_AUTHORIZED_PARTIES",
            "",
            "Origins whose session tokens are accepted, separated by commas. Without it, the public address.",
        ),
        Setting("CLERK_SIGN_IN_URL", "", "Where the pages send people to sign in."),
        Setting(
            "CLERK_JWT_KEY",
            "",
            "The public key in PEM: tokens are then verified without fetching keys.",
        ),
        Setting("CLERK_JWKS_URL", "", "Where the public keys are, if not at the issuer's usual place."),
        Setting("CLERK_API_URL", "https://api.clerk.com/v1", "Where Clerk's API is."),
    ),
    "Mail": (
        Setting(
            "EMAIL",
            "outbox",
            "`outbox` keeps mails in the data directory; `smtp` or `resend` send them.",
        ),
        Setting(
            "EMAIL_FROM",
            "Guildhall <guildhall@localhost>",
            "The sender. Required where mails are sent.",
        ),
        Setting("SMTP_HOST", "", "The mail server."),
        Setting("SMTP_PORT", "587", "Its port."),
        Setting("SMTP_SECURITY", "starttls", "`starttls`, `tls` or `none`."),
        Setting("SMTP_USERNAME", "", "The name to sign in to it with."),
        Setting("SMTP_PASSWORD", "", "The password to it."),
        Setting("RESEND_API_KEY", "", "The key for Resend."),
        Setting("RESEND_URL", "", "Where Resend's API is, if not at its usual place."),
    ),
    "Files": (
        Setting(
            "BLOBS_URL",
            "",
            "Where files are kept: `file://…`, `s3://…`, `gs://…` or `az://…`. Without it, in the "
            "data directory.",
        ),
        Setting("BLOBS_ACCESS_KEY_ID", "", "The key of an S3 store."),
        Setting("BLOBS_SECRET_ACCESS_KEY", "", "The secret that belongs to it."),
        Setting("BLOBS_REGION", "", "The region of an S3 store."),
        Setting("BLOBS_ENDPOINT", "", "The address of a store that speaks S3 and is not Amazon's."),
        Setting(
            "BLOB_HOSTS",
            "",
            "Exact hosts of other stores whose https addresses are accepted as pictures and "
            "attachments, separated by commas.",
        ),
    ),
    "Chat": (
        Setting("CHAT_KEY", "", "The key of the chat service. With its secret, chat is on."),
        Setting("CHAT_SECRET", "", "The secret of the chat service, at least 32 bytes."),
        Setting(
            "CHAT_URL",
            "https://chat.stream-io-api.com",
            "Where the chat service is, once it has a key and secret.",
        ),
    ),
    "Limits": (
        Setting(
            "RATE_LIMIT_SCALE",
            "1",
            "Multiplies every rate limit. 0 is no limit: for measurements, never for an open installation.",
        ),
        Setting("BACKLOG_WRITES", "open", "`closed` stops everybody from writing to the backlog."),
        Setting(
            "MAX_OWNED_HUBS",
            "100",
            "How many hubs one person may own beside the personal one; 0 is no limit.",
        ),
        Setting("MAX_HUB_MEMBERS", "0", "How many members a hub may have; 0 is no limit."),
        Setting("MONTHLY_PUSHES", "0", "How many memories one person may add in a month; 0 is no limit."),
        Setting("MONTHLY_RECALLS", "0", "How often one person may recall in a month; 0 is no limit."),
        Setting("MONTHLY_ASKS", "0", "How often one person may ask in a month; 0 is no limit."),
        Setting("MAX_HUB_MEMORIES", "0", "How many memories a hub may hold; 0 is no limit."),
    ),
    "What it tells": (
        Setting("LOG_LEVEL", "info", "`debug`, `info`, `warning` or `error`."),
        Setting("LOG_FORMAT", "auto", "`json`, `text`, or `auto`: text at a terminal, JSON elsewhere."),
        Setting("DOCS", "true", "Whether the descriptions of the APIs are served. In production `false`."),
        Setting("METRICS", "false", "Whether metrics are served, at `/metrics`."),
    ),
    "The commands that use a server": (
        Setting(
            "URL", "", "Where `push`, `recall`, `ask` and `hub` find it. The server itself reads neither."
        ),
        Setting("KEY", "", "The API key or session token that they use there, and `eval` too."),
    ),
}


def nearest(name: str) -> str | None:
    """The setting that somebody may have meant."""
    known = [setting.name for settings in GROUPS.values() for setting in settings]
    return next(iter(get_close_matches(name, known, n=1)), None)
