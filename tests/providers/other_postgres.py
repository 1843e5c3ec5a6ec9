"""A PostgreSQL that is not ours: older, reached over TCP with a password, and with TLS if wanted."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from urllib.parse import quote

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guildhall.providers.postgres.account import choose_account, open_the_way
from guildhall.providers.postgres.wheel import software

PASSWORD = "s3cret /?&%:@'\\"


@contextlib.contextmanager
def older_server(*settings: str) -> Generator[str]:
    """PostgreSQL 16, from the same wheel; the address of its superuser in an empty database."""
    programs = software()[0].with_name("pginstall") / "bin"
    folder = Path(tempfile.mkdtemp(prefix="gh-"))
    data = folder / "data"
    try:
        account = choose_account(folder, data)
        open_the_way(data, account)
        os.chown(folder, account.pw_uid, account.pw_gid)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        identity = (
            {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        subprocess.run(
            [
                *(
                    programs / "initdb",
                    "-D",
                    data,
                    "-U",
                    "admin",
                    "-A",
                    "scram-sha-256",
                    "--no-locale",
                    "-E",
                    "UTF8",
                ),
                f"--pwfile={folder / 'password'}",
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **identity,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = [word for setting in (f"port={port}", *settings) for word in ("-c", setting)]
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "127.0.0.1", *options],
            stderr=subprocess.DEVNULL,
            cwd="/",
            **identity,
        )
        url = f"postgresql://admin:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        try:
            _wait_for(url)
            yield url
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(20)
    finally:
        shutil.rmtree(folder)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@contextlib.asynccontextmanager
async def behind_tls(port: int, folder: Path) -> AsyncGenerator[int]:
    """A port that speaks PostgreSQL over TLS only, in front of `port`; leaves `localhost.pem` in `folder`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == bytes.fromhex("0000000804d2162f")
            writer.write(b"S")
            await writer.start_tls(context)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "localhost.pem").write_bytes(public)
    both = folder / "server.pem"
    both.write_bytes(
        public
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return both
