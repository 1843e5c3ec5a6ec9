"""The mails that bring an invite to whom it is for, and remind them once."""

from datetime import datetime, timedelta
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.mails import compose, plain_name
from guildhall.providers.email import Message
from guildhall.spaces.jobs import InviteEnding, InviteMade, InvitesDue
from guildhall.worker.work import GiveUp, Work

_ARTICLES = {"admin": "an admin", "moderator": "a moderator", "member": "a member"} | {
    "contributor": "a contributor",
    "viewer": "a viewer",
}


REMIND_BEFORE = timedelta(hours=48)
BATCH = 500
_SUBJECTS = {
    "invite": "{inviter} invites you to {space}",
    "invite_reminder": "Your invitation to {space} ends soon",
}


class _Ending(msgspec.Struct, frozen=True):
    id: UUID


class _Letter(msgspec.Struct, frozen=True):
    id: UUID
    token_hash: bytes
    email: str
    kind: str
    role: str
    expires_at: datetime
    space_name: str
    inviter_name: str


_OPEN_LETTER: LiteralString = """
    SELECT i.id, i.token_hash, coalesce(i.email, invitee.email) AS email, i.kind, i.role, i.expires_at,
           s.name AS space_name, u.display_name AS inviter_name
      FROM invites i JOIN spaces s ON s.id = i.space_id JOIN users u ON u.id = i.invited_by
      LEFT JOIN users invitee ON invitee.id = i.invitee_user_id AND invitee.email_verified
     WHERE coalesce(i.email, invitee.email) IS NOT NULL AND invite_status(i) = 'open'
"""


async def mail_invite(work: Work, job: InviteMade) -> bool:
    """Mail an invite that is still open and has not had this mail. False when there was nothing to send."""
    async with work.db.single() as tx:
        letter = await tx.maybe(
            _Letter,
            _OPEN_LETTER + " AND i.id = $1 AND coalesce(i.sent_attempt, -1) < $2",
            job.invite_id,
            job.attempt,
        )
    if letter is None:
        return False
    await work.email.send(_write(letter, _link(work, letter), "invite", str(job.attempt)))
    async with work.db.single() as tx:
        await tx.run(
            "UPDATE invites SET sent_at = now(), sent_attempt = $2"
            " WHERE id = $1 AND coalesce(sent_attempt, -1) < $2",
            job.invite_id,
            job.attempt,
        )
    return True


async def leave_reminders(work: Work, _: InvitesDue) -> None:
    """Those whose time is short and who were mailed once hear of it again."""
    last, full = UUID(int=0), True
    while full:
        async with work.db.writing() as tx:
            ending = await tx.many(
                _Ending,
                "SELECT i.id FROM invites i WHERE i.kind = 'hub' AND i.id > $1 AND i.sent_at IS NOT NULL"
                " AND i.reminded_at IS NULL AND i.expires_at < now() + $2 AND invite_status(i) = 'open'"
                " ORDER BY i.id LIMIT $3",
                last,
                REMIND_BEFORE,
                BATCH,
            )
            jobs = [InviteEnding(invite_id=row.id) for row in ending]
            await outbox.put_chores(tx, [outbox.Chore(job, f"invite.ending:{job.invite_id}") for job in jobs])
        full = len(ending) == BATCH
        last = ending[-1].id if ending else last


async def mail_reminder(work: Work, job: InviteEnding) -> bool:
    """Mail once that an open invite ends soon. False when there was nothing to send."""
    async with work.db.single() as tx:
        letter = await tx.maybe(
            _Letter, _OPEN_LETTER + " AND i.id = $1 AND i.reminded_at IS NULL", job.invite_id
        )
    if letter is None:
        return False
    await work.email.send(_write(letter, _link(work, letter), "invite_reminder", "reminder"))
    async with work.db.single() as tx:
        await tx.run("UPDATE invites SET reminded_at = now() WHERE id = $1", job.invite_id)
    return True


def _link(work: Work, letter: _Letter) -> str:
    token = work.service.invite_tokens.make_again(letter.id, letter.token_hash)
    if token is None:
        raise GiveUp("the key that made the invite's link was retired; regenerate the invite")
    return f"{work.service.public_url}/join/{token}"


def _write(letter: _Letter, link: str, template: str, which: str) -> Message:
    inviter, space = plain_name(letter.inviter_name), plain_name(letter.space_name)
    return compose(
        template,
        to=letter.email,
        subject=_SUBJECTS[template].format(inviter=inviter, space=space),
        dedupe_key=f"invite:{letter.id}:{which}",
        inviter=inviter,
        space=space,
        kind=letter.kind,
        role=_ARTICLES[letter.role],
        link=link,
        address=letter.email,
        expires=f"{letter.expires_at:%-d %B %Y, %H:%M} UTC",
    )
