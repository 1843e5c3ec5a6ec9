"""The mail that brings an invite to whom it is for."""

from datetime import datetime
from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.mails import compose, plain_name
from guildhall.providers.email import Message
from guildhall.spaces.jobs import InviteMade
from guildhall.worker.work import GiveUp, Work

_ARTICLES = {"admin": "an admin", "moderator": "a moderator", "member": "a member"} | {
    "contributor": "a contributor",
    "viewer": "a viewer",
}


class _Letter(msgspec.Struct, frozen=True):
    id: UUID
    token_hash: bytes
    email: str
    kind: str
    role: str
    expires_at: datetime
    space_name: str
    inviter_name: str


async def mail_invite(work: Work, job: InviteMade) -> bool:
    """Mail an invite that is still open and has not had this mail. False when there was nothing to send."""
    async with work.db.single() as tx:
        letter = await _find(tx, job)
    if letter is None:
        return False
    token = work.service.invite_tokens.make_again(letter.id, letter.token_hash)
    if token is None:
        raise GiveUp("the key that made the invite's link was retired; regenerate the invite")
    await work.email.send(_write(letter, f"{work.service.public_url}/join/{token}", job.attempt))
    async with work.db.single() as tx:
        await tx.run(
            "UPDATE invites SET sent_at = now(), sent_attempt = $2"
            " WHERE id = $1 AND coalesce(sent_attempt, -1) < $2",
            job.invite_id,
            job.attempt,
        )
    return True


async def _find(tx: Write, job: InviteMade) -> _Letter | None:
    return await tx.maybe(
        _Letter,
        "SELECT i.id, i.token_hash, coalesce(i.email, invitee.email) AS email, i.kind, i.role, i.expires_at,"
        " s.name AS space_name, u.display_name AS inviter_name"
        " FROM invites i JOIN spaces s ON s.id = i.space_id JOIN users u ON u.id = i.invited_by"
        " LEFT JOIN users invitee ON invitee.id = i.invitee_user_id AND invitee.email_verified"
        " WHERE i.id = $1 AND coalesce(i.email, invitee.email) IS NOT NULL"
        " AND coalesce(i.sent_attempt, -1) < $2 AND invite_status(i) = 'open'",
        job.invite_id,
        job.attempt,
    )


def _write(letter: _Letter, link: str, attempt: int) -> Message:
    inviter, space = plain_name(letter.inviter_name), plain_name(letter.space_name)
    return compose(
        "invite",
        to=letter.email,
        subject=f"{inviter} invites you to {space}",
        dedupe_key=f"invite:{letter.id}:{attempt}",
        inviter=inviter,
        space=space,
        kind=letter.kind,
        role=_ARTICLES[letter.role],
        link=link,
        address=letter.email,
        expires=f"{letter.expires_at:%-d %B %Y, %H:%M} UTC",
    )
