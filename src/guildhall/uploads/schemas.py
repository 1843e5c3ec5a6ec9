"""The wire of `/api/uploads`."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from guildhall.web.wire import Wire, text

Purpose: TypeAlias = Literal["avatar", "logo", "cover", "attachment"]


class CreateUpload(Wire, frozen=True, kw_only=True):
    filename: Annotated[str, text(1, 255), Meta(examples=["tomatoes.png"])]
    content_type: Annotated[
        str,
        text(3, 127, "line", r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(;.*)?$"),
        Meta(examples=["image/png"]),
    ]
    size_bytes: Annotated[int, Meta(ge=1, le=2**53, examples=[48_213])]
    purpose: Purpose


class Upload(Wire, frozen=True, kw_only=True):
    """Send the bytes to `uploadUrl` by `method` with `headers`, once, then use `url`."""

    upload_url: str
    method: Literal["PUT"]
    headers: dict[str, str]
    url: str
    expires_at: str
