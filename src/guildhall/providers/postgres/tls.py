"""Lets PostgreSQL's own programs reach a server that wants TLS.

The programs in the wheel are built without it. They are given a private socket instead, behind which we open
the encrypted connection, as strictly as the address asks for, and pass the bytes on.
"""

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncGenerator

from guildhall.providers.postgres.errors import DatabaseToolError
from guildhall.providers.postgres.keeper import PORT
from guildhall.providers.postgres.sockets import new_socket_folder

# The packet a client begins with when it wants TLS; the answer is one letter, S or N.
_TLS_REQUEST = struct.pack("!II", 8, 80877103)
_HANDSHAKE_S = 15

# What concerns the way to the server, and is settled by us rather than by the program behind the socket.
_TRANSPORT = {
    "host",
    "hostaddr",
    "port",
    "channel_binding",
    "gssencmode",
    "target_session_attrs",
    "load_balance_hosts",
}


@contextlib.asynccontextmanager
async def without_tls(address: dict[str, str]) -> AsyncGenerator[dict[str, str]]:
    """The same database at an address that needs no TLS, for as long as the block lasts."""
    mode = address.get("sslmode", "prefer")
    host = address.get("host", "")
    if mode == "disable" or not (host or address.get("hostaddr")) or host.startswith(("/", "@")):
        yield {key: value for key, value in address.items() if not key.startswith("ssl")}
        return
    upstream = _Upstream(address, mode)
    # Asked once before any program is started, whose message about it would be about our socket.
    (await upstream.connect())[1].close()
    folder = await asyncio.to_thread(new_socket_folder)
    try:
        server = await asyncio.start_unix_server(upstream.serve, folder / f".s.PGSQL.{PORT}")
        try:
            kept = {k: v for k, v in address.items() if k not in _TRANSPORT and not k.startswith("ssl")}
            yield {**kept, "host": str(folder), "port": str(PORT)}
        finally:
            server.close()
            await upstream.finish()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Upstream:
    def __init__(self, address: dict[str, str], mode: str) -> None:
        self.mode = mode
        names = (address.get("host") or address["hostaddr"]).split(",")
        where = (address.get("hostaddr") or address["host"]).split(",")
        ports = (address.get("port") or str(PORT)).split(",")
        ports = ports * len(names) if len(ports) == 1 else ports
        self.servers = list(zip(names, where, (int(port) for port in ports), strict=True))
        self.context = _tls_context(address, mode)
        self.conversations: set[asyncio.Task[None]] = set()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first server that can be reached. Raises DatabaseToolError."""
        problem: Exception | None = None
        for name, where, port in self.servers:
            try:
                async with asyncio.timeout(_HANDSHAKE_S):
                    return await self._open(name, where, port)
            except (OSError, TimeoutError) as error:
                problem = error
        names = ", ".join(name for name, _, _ in self.servers)
        raise DatabaseToolError(f"The database server at {names} cannot be reached: {problem}") from problem

    async def _open(
        self, name: str, where: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        plain = await asyncio.to_thread(socket.create_connection, (where, port), _HANDSHAKE_S)
        try:
            plain.setblocking(False)
            await loop.sock_sendall(plain, _TLS_REQUEST)
            answer = await loop.sock_recv(plain, 1)
            if answer == b"S":
                return await asyncio.open_connection(sock=plain, ssl=self.context, server_hostname=name)
            if answer != b"N":
                raise ConnectionResetError("it does not answer as PostgreSQL does")
            if self.mode not in {"allow", "prefer"}:
                raise DatabaseToolError(f"The address asks for TLS, and the server at {name} offers none.")
            return await asyncio.open_connection(sock=plain)
        except BaseException:
            plain.close()
            raise

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self.conversations.add(task)
            task.add_done_callback(self.conversations.discard)
        with (
            contextlib.closing(writer),
            contextlib.suppress(DatabaseToolError, OSError, asyncio.CancelledError),
        ):
            far_reader, far_writer = await self.connect()
            with contextlib.closing(far_writer):
                there = asyncio.create_task(_pass_on(reader, far_writer))
                back = asyncio.create_task(_pass_on(far_reader, writer))
                try:
                    await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)

    async def finish(self) -> None:
        conversations = list(self.conversations)
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def _tls_context(address: dict[str, str], mode: str) -> ssl.SSLContext:
    """As strict as `sslmode` means it: only verify-ca and verify-full look at who answers."""
    root = address.get("sslrootcert")
    verify = mode in {"verify-ca", "verify-full"} or root == "system"
    try:
        if verify:
            context = ssl.create_default_context(cafile=None if root in {None, "system"} else root)
            context.check_hostname = mode == "verify-full" or root == "system"
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate := address.get("sslcert"):
            context.load_cert_chain(certificate, address.get("sslkey"), address.get("sslpassword"))
    except (OSError, ssl.SSLError) as error:
        raise DatabaseToolError(f"The certificates the address names cannot be used: {error}") from error
    return context
