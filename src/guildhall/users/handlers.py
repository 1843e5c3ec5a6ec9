"""What the worker does about accounts. Each handler may run twice, late, or beside its twin."""

from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.outbox import Handlers
from guildhall.providers.email import Message, Rejected
from guildhall.spaces import chat_people
from guildhall.spaces.jobs import BlobUnused
from guildhall.users import exports, sign_in
from guildhall.users.erasure import address_macs
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


async def mail_code(work: Work, job: CodeAsked) -> bool:
    """Mail a code that is still good. One that was replaced, used, or is out of time is not worth a mail."""
    async with work.db.writing() as tx:
        await tx.run("DELETE FROM sign_in_codes WHERE expires_at < now()")
        row = await tx.maybe(_Code, "SELECT email, code_hash FROM sign_in_codes WHERE id = $1", job.code_id)
    code = sign_in.code_of(work.service.keys, job.code_id, row.code_hash) if row else None
    if row is None or code is None:
        return False
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
    return True


async def show_profile(work: Work, job: ProfileChanged) -> bool:
    """Make the chat service show a person's name and picture as they are now."""
    return await chat_people.refresh_person(work, job.user_id)


class _Closed(msgspec.Struct, frozen=True):
    closed: bool


async def end_chat(work: Work, job: UserDisabled) -> bool:
    """Make chat tokens given out before now useless, unless the account was opened again meanwhile."""
    async with work.db.single() as tx:
        account = await tx.maybe(
            _Closed, "SELECT status <> 'active' AS closed FROM users WHERE id = $1", job.user_id
        )
    if account is None or not account.closed:
        return False
    return await chat_people.revoke_person(work, job.user_id)


class _Invite(msgspec.Struct, frozen=True):
    id: UUID


async def forget_erased(work: Work, job: UserErased) -> bool:
    """Remove kept mails to the person or naming them as inviter, and the person at the chat service."""
    async with work.db.single() as tx:
        invites = await tx.many(_Invite, "SELECT id FROM invites WHERE invited_by = $1", job.user_id)
    sent = {str(invite.id) for invite in invites}

    def unwanted(to: str, dedupe_key: str) -> bool:
        kind, _, rest = dedupe_key.partition(":")
        if kind == "invite" and rest.partition(":")[0] in sent:
            return True
        return job.address_mac is not None and job.address_mac in address_macs(work.service.keys, to)

    await work.email.forget(unwanted)
    return await chat_people.forget_person(work, job.user_id)


class _Wish(msgspec.Struct, frozen=True):
    """Whose archive is wanted, and under which name somebody began to store it before."""

    user_id: str
    begun: str | None


async def make_export(work: Work, job: ExportAsked) -> None:
    """Gather the archive, then let go of the ones before it."""
    name = exports.new_name()
    wish = await _take_wish(work, job.export_id, name)
    if wish is None:
        return
    await work.blobs.put(name, exports.gather(work.db, wish.user_id), "text/plain", exports.MAX_BYTES)
    async with work.db.writing() as tx:
        kept = await tx.run(
            "UPDATE exports SET ready_at = now() WHERE id = $1 AND ready_at IS NULL AND blob = $2",
            job.export_id,
            name,
        )
        if kept:
            await outbox.put(tx, ExportExpired(export_id=job.export_id), after=2 * exports.LINK)
    if not kept:
        # The person was erased while we gathered, or our twin took over.
        await work.blobs.delete(name)
        return
    async with work.db.single() as tx:
        older = await tx.many(
            _Older,
            "SELECT old.id FROM exports old JOIN exports new ON new.user_id = old.user_id"
            " WHERE new.id = $1 AND old.id <> new.id AND old.requested_at <= new.requested_at",
            job.export_id,
        )
    for row in older:
        await remove_export(work, ExportExpired(export_id=row.id))


class _Older(msgspec.Struct, frozen=True):
    id: UUID


async def _take_wish(work: Work, export_id: UUID, name: str) -> _Wish | None:
    """Note the name before anything is stored under it, so that no file can be without a row that knows it.

    None when the archive is made, or nobody is there any more who wants it.
    """
    async with work.db.writing() as tx:
        wish = await tx.maybe(
            _Wish,
            "WITH wanted AS (SELECT e.id, e.blob FROM exports e JOIN users u ON u.id = e.user_id"
            "   AND u.status <> 'erased' WHERE e.id = $1 AND e.ready_at IS NULL FOR NO KEY UPDATE OF e)"
            " UPDATE exports SET blob = $2 FROM wanted WHERE exports.id = wanted.id"
            " RETURNING exports.user_id, wanted.blob AS begun",
            export_id,
            name,
        )
        if wish is not None and wish.begun is not None:
            await outbox.put(tx, BlobUnused(name=wish.begun))
    return wish


async def remove_export(work: Work, job: ExportExpired) -> None:
    """Remove an archive and its row. The file goes first, so that what is left can be found by the row."""
    async with work.db.single() as tx:
        name: str | None = await tx.value("SELECT blob FROM exports WHERE id = $1", job.export_id)
    if name is not None:
        await work.blobs.delete(name)
    async with work.db.single() as tx:
        await tx.run("DELETE FROM exports WHERE id = $1", job.export_id)


HANDLERS: Handlers = {
    CodeAsked: mail_code,
    ProfileChanged: show_profile,
    UserDisabled: end_chat,
    UserErased: forget_erased,
    ExportAsked: make_export,
    ExportExpired: remove_export,
}
