"""What the worker does about accounts. Each handler may run twice, late, or beside its twin."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Db
from guildhall.outbox import Handlers
from guildhall.providers.chat import ChatUser
from guildhall.providers.email import Message, Rejected
from guildhall.users import exports, sign_in
from guildhall.users.jobs import (
    CodeAsked,
    ExportAsked,
    ExportExpired,
    ProfileChanged,
    UserDisabled,
    UserErased,
)
from guildhall.web.log import logger
from guildhall.worker.work import Work


class _Code(msgspec.Struct, frozen=True):
    email: str
    code_hash: bytes


async def mail_code(work: Work, job: CodeAsked) -> None:
    """Mail a code that is still good. One that was replaced, used, or is out of time is not worth a mail."""
    async with work.db.writing() as tx:
        await tx.run("DELETE FROM sign_in_codes WHERE expires_at < now()")
        row = await tx.maybe(_Code, "SELECT email, code_hash FROM sign_in_codes WHERE id = $1", job.code_id)
    if row is None:
        return
    code = sign_in.code_of(work.service.keys, job.code_id, row.code_hash)
    if code is None:
        return
    minutes = int(sign_in.CODE_LIFETIME.total_seconds() // 60)
    text = (
        f"Your sign-in code is {code}\n\n"
        f"It is good for {minutes} minutes, once, at {work.service.public_url}\n"
        "If you did not ask for it, ignore this mail: nothing happens without the code.\n"
    )
    html = (
        f"<p>Your sign-in code is</p><p style='font-size:2em;letter-spacing:.2em'><b>{code}</b></p>"
        f"<p>It is good for {minutes} minutes, once. If you did not ask for it, ignore this mail: "
        "nothing happens without the code.</p>"
    )
    try:
        await work.email.send(Message(row.email, "Your sign-in code", text, html, f"code-{job.code_id}"))
    except Rejected as error:
        # Nobody waits for a code that cannot be delivered longer than it takes to ask for another.
        logger().warning("mail rejected", reason=str(error), job=job.entrypoint)


async def show_profile(work: Work, job: ProfileChanged) -> None:
    """Make the chat service show a person's name and picture as they are now."""
    if work.chat is None:
        return
    async with work.db.reading() as read:
        user = await read.maybe(
            ChatUser,
            "SELECT id, display_name AS name, avatar_url AS image FROM users"
            " WHERE id = $1 AND status = 'active'",
            job.user_id,
        )
    if user is not None:
        await work.chat.upsert_users([user])


async def end_chat(work: Work, job: UserDisabled) -> None:
    """Make chat tokens given out before now useless, unless the account was opened again meanwhile."""
    if work.chat is None:
        return
    async with work.db.reading() as read:
        closed = await read.value(
            "SELECT EXISTS (SELECT FROM users WHERE id = $1 AND status <> 'active')", job.user_id
        )
    if closed:
        await work.chat.revoke_tokens(job.user_id, datetime.now(UTC))


async def erase_from_chat(work: Work, job: UserErased) -> None:
    if work.chat is not None:
        await work.chat.delete_user(job.user_id)


async def make_export(work: Work, job: ExportAsked) -> None:
    """Gather the archive, then let go of the ones before it."""
    user_id = await _waiting(work.db, job.export_id)
    if user_id is None:
        return
    name = exports.new_name()
    await work.blobs.put(name, exports.gather(work.db, user_id), "text/plain", exports.MAX_BYTES)
    async with work.db.writing() as tx:
        kept = await tx.run(
            "UPDATE exports SET ready_at = now(), blob = $2 WHERE id = $1 AND ready_at IS NULL",
            job.export_id,
            name,
        )
        if kept:
            await outbox.put(tx, ExportExpired(export_id=job.export_id), after=2 * exports.LINK)
    if not kept:
        # The person was erased while we gathered, or our twin was quicker.
        await work.blobs.delete(name)
        return
    async with work.db.reading() as read:
        older: list[UUID] = [
            row["id"]
            for row in await read.connection.fetch(
                "SELECT old.id FROM exports old JOIN exports new ON new.user_id = old.user_id"
                " WHERE new.id = $1 AND old.id <> new.id AND old.requested_at <= new.requested_at",
                job.export_id,
            )
        ]
    for export_id in older:
        await remove_export(work, ExportExpired(export_id=export_id))


async def _waiting(db: Db, export_id: UUID) -> str | None:
    async with db.reading() as read:
        return await read.value(
            "SELECT e.user_id FROM exports e JOIN users u ON u.id = e.user_id AND u.status <> 'erased'"
            " WHERE e.id = $1 AND e.ready_at IS NULL",
            export_id,
        )


async def remove_export(work: Work, job: ExportExpired) -> None:
    """Remove an archive and its row. The file goes first, so that what is left can be found by the row."""
    async with work.db.reading() as read:
        name: str | None = await read.value("SELECT blob FROM exports WHERE id = $1", job.export_id)
    if name is not None:
        await work.blobs.delete(name)
    async with work.db.single() as tx:
        await tx.run("DELETE FROM exports WHERE id = $1", job.export_id)


HANDLERS: Handlers = {
    CodeAsked: mail_code,
    ProfileChanged: show_profile,
    UserDisabled: end_chat,
    UserErased: erase_from_chat,
    ExportAsked: make_export,
    ExportExpired: remove_export,
}
