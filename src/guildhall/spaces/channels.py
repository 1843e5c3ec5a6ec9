"""A community's channel and those of its groups: they exist, and hold exactly the people entitled to them.

What the chat service has is kept in `chat_channels` and `chat_members`, so that a change costs what differs
and not a reading of everybody. A row says "not known" before a call and what came of it after, so a process
that dies between leaves no false belief; a channel that may differ is read whole before it is trusted again.
All reads are of the primary database: a replica may not have the change yet that the job is about.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from guildhall.db import Db, Write
from guildhall.providers.chat import (
    COMMUNITY_CHANNEL_ROLES,
    GROUP_CHANNEL_ROLES,
    SPACE,
    ChannelWanted,
    Chat,
    ChatRejected,
    ChatUser,
)
from guildhall.spaces.jobs import SpaceChanged, SpaceSwept
from guildhall.spaces.turns import Turn, TurnLost
from guildhall.web.log import logger
from guildhall.worker.work import Work

AT_ONCE = 100
LOOKED_AT = 1_000
NO_SUCH_CHANNEL = 16
# Input it does not take, and an id that was deleted there and cannot come back.
ABOUT_PEOPLE = (4, 16)

# Who should be where, by the roles of our own: the community's members, and each group's.
_ENTITLED = """
    SELECT m.space_id AS channel_id, m.user_id, m.role, u.display_name, u.avatar_url
      FROM spaces s
      JOIN members m ON m.space_id = s.id AND m.status = 'active'
      JOIN users u ON u.id = m.user_id AND u.status = 'active'
     WHERE s.id = $1 AND s.kind = 'community' AND s.deleted_at IS NULL
    UNION ALL
    SELECT g.group_id, g.user_id, g.role, u.display_name, u.avatar_url
      FROM spaces s
      JOIN group_members g ON g.space_id = s.id
      JOIN members m ON m.space_id = g.space_id AND m.user_id = g.user_id AND m.status = 'active'
      JOIN users u ON u.id = g.user_id AND u.status = 'active'
     WHERE s.id = $1 AND s.kind = 'community' AND s.deleted_at IS NULL
"""


class _Channel(msgspec.Struct, frozen=True):
    """A channel that should be, or is known to be there. `creator_id` is somebody the service may name."""

    id: UUID
    type: str
    live: bool
    known: bool
    trusted: bool
    described: bool
    name: str | None
    image: str | None
    creator_id: str | None
    creator_name: str | None
    creator_image: str | None


class _Entitled(msgspec.Struct, frozen=True):
    channel_id: UUID
    user_id: str
    role: str
    display_name: str
    avatar_url: str | None


class _Difference(msgspec.Struct, frozen=True):
    """Somebody to place in a channel, or with no role to take out."""

    channel_id: UUID
    type: str
    user_id: str
    role: str | None
    display_name: str | None
    avatar_url: str | None


class _Progress(msgspec.Struct, frozen=True):
    kind: str | None
    up_to_date: bool
    known: bool


async def match_channels(work: Work, job: SpaceChanged) -> bool:
    """Make the space's channels match; False when the chat service need not be asked, or another is at it."""
    if work.chat is None:
        await note_unfinished(work.db, job.space_id)
        return False
    async with work.db.single() as tx:
        progress = await tx.one(
            _Progress,
            "SELECT s.kind, c.space_id IS NOT NULL AS known,"
            " coalesce(c.done_version = s.version AND c.holder IS NULL AND NOT c.again"
            "          AND s.deleted_at IS NULL, false) AS up_to_date"
            " FROM (SELECT $1::uuid AS id) wanted"
            " LEFT JOIN spaces s ON s.id = wanted.id LEFT JOIN chat_spaces c ON c.space_id = wanted.id",
            job.space_id,
        )
    if progress.up_to_date or (progress.kind != "community" and not progress.known):
        return False
    return await _match(work, work.chat, job.space_id)


async def sweep_channels(work: Work, job: SpaceSwept) -> bool:
    """Read every channel of the space whole and repair it."""
    if work.chat is None:
        return False
    async with work.db.writing() as tx:
        await tx.run("UPDATE chat_channels SET trusted = false WHERE space_id = $1", job.space_id)
        await tx.run("UPDATE chat_spaces SET again = true WHERE space_id = $1", job.space_id)
    return await match_channels(work, SpaceChanged(space_id=job.space_id))


async def note_unfinished(db: Db, space: UUID) -> None:
    """Remember that the space's channels may not match, for when there is a chat service."""
    async with db.single() as tx:
        await tx.run(
            "INSERT INTO chat_spaces (space_id, again)"
            " SELECT id, true FROM spaces WHERE id = $1 AND kind = 'community'"
            "   AND (deleted_at IS NULL OR EXISTS (SELECT FROM chat_spaces WHERE space_id = $1))"
            " UNION SELECT space_id, true FROM chat_spaces WHERE space_id = $1"
            " ON CONFLICT (space_id) DO UPDATE SET again = true",
            space,
        )


async def _match(work: Work, chat: Chat, space: UUID) -> bool:
    turn = Turn(work.db, space)
    if not await turn.take():
        return False
    matching = _Matching(work.db, chat, turn)
    async with turn.kept():
        while True:
            version = await turn.begin()
            try:
                await matching.look()
            except TurnLost:
                await matching.distrust_unanswered()
                raise
            if await turn.finish(version):
                return matching.asked


class _Matching:
    """One worker's turn at one space."""

    def __init__(self, db: Db, chat: Chat, turn: Turn) -> None:
        self._db = db
        self._chat = chat
        self._turn = turn
        # People the service will not have; tried again at the next turn, not for ever in this one.
        self._refused: set[str] = set()
        # Channels that a call went out about whose outcome is not written down yet.
        self._unanswered: dict[UUID, str] = {}
        self.asked = False

    async def distrust_unanswered(self) -> None:
        """A call of ours may have undone another's later work, so nobody may rely on what they wrote down."""
        for channel_id, channel_type in self._unanswered.items():
            await self._distrust(channel_id, channel_type)

    def _asking(self, channel_id: UUID, channel_type: str) -> None:
        self.asked = True
        self._unanswered[channel_id] = channel_type

    async def look(self) -> None:
        for channel in await self._channels():
            if not channel.live:
                await self._remove(channel)
                continue
            if not channel.known:
                # Written down first: a channel that we did not know of would never be deleted.
                await self._note(channel)
            if not channel.trusted:
                await self._read_whole(channel)
            elif not channel.described:
                await self._open(channel)
        while differences := await self._differences():
            by_channel: dict[tuple[UUID, str], list[_Difference]] = {}
            for difference in differences:
                by_channel.setdefault((difference.channel_id, difference.type), []).append(difference)
            for (channel_id, channel_type), changes in by_channel.items():
                for at in range(0, len(changes), AT_ONCE):
                    await self._place(channel_id, channel_type, changes[at : at + AT_ONCE])

    async def _channels(self) -> list[_Channel]:
        async with self._db.single() as tx:
            return await tx.many(
                _Channel,
                "WITH wanted AS ("
                "  SELECT s.id, 'guildhall-space' AS type, s.name, s.logo_url AS image FROM spaces s"
                "   WHERE s.id = $1 AND s.kind = 'community' AND s.deleted_at IS NULL"
                "  UNION ALL"
                "  SELECT g.id, 'guildhall-group', g.name, NULL"
                "    FROM groups g JOIN spaces s ON s.id = g.space_id"
                "   WHERE g.space_id = $1 AND s.deleted_at IS NULL),"
                " there AS (SELECT * FROM chat_channels WHERE space_id = $1),"
                " creator AS (SELECT u.id, u.display_name, u.avatar_url"
                "   FROM members m JOIN users u ON u.id = m.user_id"
                "  WHERE m.space_id = $1 AND m.status = 'active' AND u.status = 'active'"
                "    AND NOT u.id = ANY($2::text[])"
                "  ORDER BY m.rank, m.sort_name, m.user_id LIMIT 1)"
                " SELECT coalesce(w.id, c.id) AS id, coalesce(w.type, c.type) AS type,"
                " w.id IS NOT NULL AS live, c.id IS NOT NULL AS known, coalesce(c.trusted, true) AS trusted,"
                " coalesce(c.name = w.name AND c.image IS NOT DISTINCT FROM w.image, false) AS described,"
                " w.name, w.image,"
                " p.id AS creator_id, p.display_name AS creator_name, p.avatar_url AS creator_image"
                " FROM wanted w FULL JOIN there c ON c.id = w.id LEFT JOIN creator p ON true"
                # Deletions come first: a right must not outlive its reason.
                " ORDER BY live, id",
                self._turn.space,
                list(self._refused),
            )

    async def _differences(self) -> list[_Difference]:
        async with self._db.single() as tx:
            return await tx.many(
                _Difference,
                "WITH entitled AS (" + _ENTITLED + "),"
                " wanted AS (SELECT c.id AS channel_id, e.user_id, e.display_name, e.avatar_url,"
                "   CASE WHEN e.role IN ('owner', 'admin', 'moderator') THEN 'channel_moderator'"
                "        ELSE 'channel_member' END AS role"
                "   FROM entitled e JOIN chat_channels c ON c.id = e.channel_id"
                "  WHERE c.space_id = $1 AND c.trusted AND c.name IS NOT NULL),"
                " there AS (SELECT m.channel_id, m.user_id, coalesce(m.role, '?') AS role"
                "   FROM chat_members m JOIN chat_channels c ON c.id = m.channel_id"
                "  WHERE c.space_id = $1 AND c.trusted AND c.name IS NOT NULL)"
                " SELECT channel_id, c.type, user_id, w.role, w.display_name, w.avatar_url"
                " FROM wanted w FULL JOIN there t USING (channel_id, user_id)"
                " JOIN chat_channels c ON c.id = channel_id"
                " WHERE w.role IS DISTINCT FROM t.role AND NOT user_id = ANY($2::text[])"
                " ORDER BY w.role IS NOT NULL, w.role DESC, channel_id, user_id LIMIT $3",
                self._turn.space,
                list(self._refused),
                LOOKED_AT,
            )

    async def _place(self, channel_id: UUID, channel_type: str, changes: Sequence[_Difference]) -> None:
        await self._believe(channel_id, {change.user_id: None for change in changes})
        self._asking(channel_id, channel_type)
        roles = {change.user_id: change.role for change in changes}
        coming = [
            ChatUser(change.user_id, change.display_name or "", change.avatar_url)
            for change in changes
            if change.role is not None
        ]
        for user_id in await self._introduce(coming):
            del roles[user_id]
        try:
            if roles:
                await self._chat.place_members(channel_type, str(channel_id), roles)
        except ChatRejected as error:
            if error.code == NO_SUCH_CHANNEL:
                await self._distrust(channel_id, channel_type)
                await self._read_whole(await self._channel(channel_id))
                return
            if not error.user_ids:
                raise
            for user_id in error.user_ids:
                self._refuse(user_id)
                del roles[user_id]
        await self._believe(channel_id, roles, known=True)
        del self._unanswered[channel_id]

    async def _introduce(self, people: Sequence[ChatUser]) -> list[str]:
        """Make people known to the service; answers those it refuses, such as one deleted there."""
        refused: list[str] = []
        for at in range(0, len(people), AT_ONCE):
            batch = people[at : at + AT_ONCE]
            try:
                await self._chat.upsert_users(batch)
            except ChatRejected as error:
                # Anything else, such as a wrong key, is not about these people.
                if error.code not in ABOUT_PEOPLE:
                    raise
                if len(people) == 1:
                    self._refuse(people[0].id)
                    return [people[0].id]
                for person in batch:
                    refused += await self._introduce([person])
        return refused

    def _refuse(self, user_id: str) -> None:
        self._refused.add(user_id)
        logger().warning("chat.person_refused", user=user_id, space=str(self._turn.space))

    async def _open(self, channel: _Channel) -> bool:
        """Make the channel, or give it its name. False when nobody is left whom it could be made for."""
        wanted = await self._wanted(channel, {})
        if wanted is None:
            return False
        self._asking(channel.id, channel.type)
        try:
            await self._chat.open_channel(wanted)
        except ChatRejected as error:
            if error.code != NO_SUCH_CHANNEL:
                raise
            # There is no such type yet at a service that was never set up, or was set up anew.
            await self._chat.ensure_channel_types()
            await self._chat.open_channel(wanted)
        await self._describe(channel)
        del self._unanswered[channel.id]
        return True

    async def _wanted(self, channel: _Channel, members: Mapping[str, str]) -> ChannelWanted | None:
        if channel.creator_id is None or channel.name is None:
            return None
        creator = ChatUser(channel.creator_id, channel.creator_name or "", channel.creator_image)
        if await self._introduce([creator]):
            return await self._wanted(await self._channel(channel.id), members)
        return ChannelWanted(
            type=channel.type,
            id=str(channel.id),
            name=channel.name,
            image=channel.image,
            created_by=channel.creator_id,
            members=members,
        )

    async def _channel(self, channel_id: UUID) -> _Channel:
        return next(channel for channel in await self._channels() if channel.id == channel_id)

    async def _read_whole(self, channel: _Channel) -> None:
        """Compare with everybody who is really there."""
        members: dict[str, str] = {}
        if await self._open(channel):
            members = await self._settle(channel)
        else:
            await self._empty(channel)
        await self._replace(channel.id, members)
        del self._unanswered[channel.id]

    async def _settle(self, channel: _Channel) -> dict[str, str]:
        """Make everyone who is entitled a member, and nobody else; answers who that was."""
        channel_roles = COMMUNITY_CHANNEL_ROLES if channel.type == SPACE else GROUP_CHANNEL_ROLES
        entitled = [p for p in await self._entitled(channel.id) if p.user_id not in self._refused]
        members: dict[str, str] = {person.user_id: channel_roles[person.role] for person in entitled}
        self._asking(channel.id, channel.type)
        try:
            await self._converge(channel, members)
        except ChatRejected as error:
            if not error.user_ids:
                raise
            people = [ChatUser(p.user_id, p.display_name, p.avatar_url) for p in entitled]
            for user_id in await self._introduce(people):
                del members[user_id]
            await self._converge(channel, members)
        return members

    async def _empty(self, channel: _Channel) -> None:
        """Nobody is entitled, so there is nobody to make the channel for; whoever is still in it goes."""
        self._asking(channel.id, channel.type)
        left = await self._chat.list_member_ids(channel.type, str(channel.id))
        if left:
            await self._chat.place_members(channel.type, str(channel.id), dict.fromkeys(left))

    async def _converge(self, channel: _Channel, members: Mapping[str, str]) -> None:
        wanted = await self._wanted(channel, members)
        if wanted is not None:
            await self._chat.converge_channel(wanted)

    async def _entitled(self, channel_id: UUID) -> list[_Entitled]:
        async with self._db.single() as tx:
            return await tx.many(
                _Entitled,
                "WITH entitled AS ("
                + _ENTITLED
                + ") SELECT channel_id, user_id, role, display_name, avatar_url"
                " FROM entitled WHERE channel_id = $2",
                self._turn.space,
                channel_id,
            )

    # What is written down, always and only by whoever has the turn.

    async def _note(self, channel: _Channel) -> None:
        async with self._db.writing() as tx:
            await self._turn.check(tx)
            await tx.run(
                "INSERT INTO chat_channels (id, type, space_id) VALUES ($1, $2, $3)",
                channel.id,
                channel.type,
                self._turn.space,
            )

    async def _describe(self, channel: _Channel) -> None:
        async with self._db.writing() as tx:
            await self._turn.check(tx)
            await tx.run(
                "UPDATE chat_channels SET name = $2, image = $3 WHERE id = $1",
                channel.id,
                channel.name,
                channel.image,
            )

    async def _believe(
        self, channel_id: UUID, roles: Mapping[str, str | None], *, known: bool = False
    ) -> None:
        """Write who has which role. A missing role means out when that is known, else that nobody knows."""
        out = [user for user, role in roles.items() if known and role is None]
        kept = [(user, role) for user, role in roles.items() if not (known and role is None)]
        async with self._db.writing() as tx:
            await self._turn.check(tx)
            if out:
                await tx.run(
                    "DELETE FROM chat_members WHERE channel_id = $1 AND user_id = ANY($2)", channel_id, out
                )
            if kept:
                await _insert(tx, channel_id, kept)

    async def _replace(self, channel_id: UUID, members: Mapping[str, str]) -> None:
        placed = list(members.items())
        async with self._db.writing() as tx:
            await self._turn.check(tx)
            await tx.run("DELETE FROM chat_members WHERE channel_id = $1", channel_id)
            for at in range(0, len(placed), 10_000):
                await _insert(tx, channel_id, placed[at : at + 10_000])
            await tx.run("UPDATE chat_channels SET trusted = true WHERE id = $1", channel_id)

    async def _remove(self, channel: _Channel) -> None:
        self._asking(channel.id, channel.type)
        await self._chat.delete_channel(channel.type, str(channel.id))
        async with self._db.writing() as tx:
            await self._turn.check(tx)
            await tx.run("DELETE FROM chat_channels WHERE id = $1", channel.id)
        del self._unanswered[channel.id]

    async def _distrust(self, channel_id: UUID, channel_type: str) -> None:
        async with self._db.writing() as tx:
            await tx.run(
                "INSERT INTO chat_spaces (space_id, again) VALUES ($1, true)"
                " ON CONFLICT (space_id) DO UPDATE SET again = true",
                self._turn.space,
            )
            await tx.run(
                "INSERT INTO chat_channels (id, type, space_id, trusted) VALUES ($1, $2, $3, false)"
                " ON CONFLICT (id) DO UPDATE SET trusted = false",
                channel_id,
                channel_type,
                self._turn.space,
            )


async def _insert(tx: Write, channel_id: UUID, placed: Sequence[tuple[str, str | None]]) -> None:
    await tx.run(
        "INSERT INTO chat_members (channel_id, user_id, role)"
        " SELECT $1, unnest($2::text[]), unnest($3::text[])"
        " ON CONFLICT (channel_id, user_id) DO UPDATE SET role = EXCLUDED.role",
        channel_id,
        [user for user, _ in placed],
        [role for _, role in placed],
    )
