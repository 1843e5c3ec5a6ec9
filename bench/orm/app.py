"""The routes, and the dependencies that check who asks."""
# pyright: reportMissingImports=false

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import aliased, joinedload

from bench.orm.models import Member, Post, Space, User, UserSession
from bench.orm.schemas import CommunityOut, CreatePost, Feed, MemberOut, PostOut, ProfileOut

POOL = 10
MODERATORS = ("owner", "admin", "moderator")
DIRECTORY_BATCH = 500

log = logging.getLogger("orm")
bearer = HTTPBearer(auto_error=False)


async def open_session(request: Request) -> AsyncGenerator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Db: TypeAlias = Annotated[AsyncSession, Depends(open_session)]


async def current_user(
    request: Request, db: Db, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> User:
    if credentials is None:
        raise HTTPException(401)
    try:
        claims = jwt.decode(
            credentials.credentials,
            request.app.state.key,
            algorithms=["EdDSA"],
            issuer=request.app.state.issuer,
            options={"require": ["exp", "iat", "sub", "sid"]},
        )
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    user = await db.scalar(
        select(User)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            User.id == claims["sub"],
            User.issuer == claims["iss"],
            User.status == "active",
            UserSession.id == claims["sid"],
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > func.now(),
        )
    )
    if user is None:
        raise HTTPException(401)
    return user


CurrentUser: TypeAlias = Annotated[User, Depends(current_user)]


async def find_membership(db: AsyncSession, user: User, community_id: UUID) -> Member:
    """The caller's membership with its community. The community is closed to everybody else."""
    member = await db.scalar(
        select(Member)
        .join(Member.space)
        .options(joinedload(Member.space))
        .where(
            Member.space_id == community_id,
            Member.user_id == user.id,
            Member.status == "active",
            Space.deleted_at.is_(None),
        )
    )
    if member is None:
        space = await db.get(Space, community_id)
        raise HTTPException(404 if space is None or space.is_private or space.deleted_at else 403)
    return member


async def read_feed(
    db: Db,
    user: CurrentUser,
    community_id: Annotated[UUID, Query(alias="communityId")],
    page: Annotated[int, Query(ge=1)] = 1,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Feed:
    member = await find_membership(db, user, community_id)
    posts = (
        await db.scalars(
            select(Post)
            .options(joinedload(Post.author))
            .where(Post.space_id == community_id, Post.group_id.is_(None))
            .order_by(Post.is_pinned.desc(), Post.created_at.desc(), Post.id.desc())
            .limit(limit + 1)
            .offset((page - 1) * limit)
        )
    ).all()
    return Feed(
        items=[PostOut.model_validate(post) for post in posts[:limit]],
        page=page,
        limit=limit,
        total=member.space.post_count,
        has_more=len(posts) > limit,
        next_cursor=None,
    )


async def create_post(db: Db, user: CurrentUser, wanted: CreatePost) -> PostOut:
    member = await find_membership(db, user, wanted.community_id)
    if wanted.is_pinned and member.role not in MODERATORS:
        raise HTTPException(403)
    now = datetime.now(UTC)
    post = Post(
        id=uuid4(),
        space_id=wanted.community_id,
        author=user,
        title=wanted.title,
        content=wanted.content,
        attachments=[],
        is_pinned=wanted.is_pinned,
        created_at=now,
        updated_at=now,
    )
    db.add(post)
    await db.commit()
    return PostOut.model_validate(post)


async def read_post(db: Db, user: CurrentUser, post_id: UUID) -> PostOut:
    post = await db.scalar(select(Post).options(joinedload(Post.author)).where(Post.id == post_id))
    if post is None:
        raise HTTPException(404)
    await find_membership(db, user, post.space_id)
    return PostOut.model_validate(post)


async def read_community(db: Db, user: CurrentUser, community_id: UUID) -> CommunityOut:
    row = (
        await db.execute(
            select(Space, Member.role)
            .outerjoin(
                Member,
                (Member.space_id == Space.id) & (Member.user_id == user.id) & (Member.status == "active"),
            )
            .where(Space.id == community_id, Space.deleted_at.is_(None))
        )
    ).one_or_none()
    if row is None or (row.role is None and row.Space.is_private):
        raise HTTPException(404)
    space: Space = row.Space
    return CommunityOut(
        id=space.id,
        name=space.name,
        slug=space.slug,
        description=space.description,
        is_private=space.is_private,
        logo_url=space.logo_url,
        cover_image_url=space.cover_image_url,
        owner_id=space.owner_id,
        role=row.role,
        member_count=space.member_count,
        stream_channel_id=space.id,
        created_at=space.created_at,
        updated_at=space.updated_at,
    )


async def read_profile(db: Db, user: CurrentUser, user_id: str) -> ProfileOut:
    mine, theirs = aliased(Member), aliased(Member)
    shared = (
        select(mine.user_id)
        .join(theirs, theirs.space_id == mine.space_id)
        .join(Space, Space.id == mine.space_id)
        .where(
            mine.user_id == user.id,
            mine.status == "active",
            theirs.user_id == user_id,
            theirs.status == "active",
            Space.deleted_at.is_(None),
        )
        .exists()
    )
    found = await db.scalar(select(User).where(User.id == user_id, User.status != "erased", shared))
    if found is None:
        raise HTTPException(404)
    return ProfileOut.model_validate(found)


async def list_members(db: Db, user: CurrentUser, community_id: UUID) -> StreamingResponse:
    await find_membership(db, user, community_id)

    async def body() -> AsyncIterator[bytes]:
        rows = await db.stream_scalars(
            select(Member)
            .options(joinedload(Member.user))
            .where(Member.space_id == community_id)
            .order_by(Member.rank, Member.sort_name, Member.user_id)
            .execution_options(yield_per=DIRECTORY_BATCH)
        )
        lead = b'{"items":['
        async for batch in rows.partitions():
            yield lead + b",".join(_member(member) for member in batch)
            lead = b","
        yield b"]}"

    return StreamingResponse(body(), media_type="application/json")


def _member(member: Member) -> bytes:
    return (
        MemberOut(
            user_id=member.user_id,
            display_name=member.user.display_name,
            avatar_url=member.user.avatar_url,
            bio=member.user.bio,
            role=member.role,
            status=member.status,
            joined_at=member.joined_at,
        )
        .model_dump_json(by_alias=True)
        .encode()
    )


class AccessLog:
    """A line for each request, since every service keeps one."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            took_ms = (time.perf_counter() - started) * 1000
            log.info("%s %s %d %.1f ms", scope["method"], scope["path"], status, took_ms)


def build(url: str, key: Ed25519PublicKey, issuer: str) -> FastAPI:
    """`url` is PostgreSQL's, without a driver; `key` and `issuer` are what tokens are verified with."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=POOL, max_overflow=0
        )
        app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
        app.state.key = key
        app.state.issuer = issuer
        yield
        await engine.dispose()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(AccessLog)
    app.get("/api/posts")(read_feed)
    app.post("/api/posts", status_code=201)(create_post)
    app.get("/api/posts/{post_id}")(read_post)
    app.get("/api/communities/{community_id}")(read_community)
    app.get("/api/communities/{community_id}/members")(list_members)
    app.get("/api/members/{user_id}/profile")(read_profile)
    return app
