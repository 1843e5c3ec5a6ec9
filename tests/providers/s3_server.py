"""An S3-compatible server on loopback: the calls an object store client makes, kept in memory.

It answers with what the published S3 API promises for put, get with a range, head, copy, delete, list
and multipart uploads, shows what was left behind, and can be told to fail.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import unquote
from xml.sax.saxutils import escape

from tests.providers.http_server import Request, Response, serve_http

ACCESS_KEY = "guildhall-tests"
BUCKET = "blobs"


class S3Server:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.modified: dict[str, datetime] = {}
        self.open_uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[Request] = []
        self.fault: Callable[[Request], Awaitable[Response | None]] | None = None
        self._serial = 0

    async def handle(self, request: Request) -> Response | None:
        self.requests.append(request)
        if f"Credential={ACCESS_KEY}/" not in request.headers.get("authorization", ""):
            return self._error(403, "AccessDenied")
        if self.fault is not None:
            answer = await self.fault(request)
            if answer is None or answer.status != 0:
                return answer
        bucket, _, key = request.path.lstrip("/").partition("/")
        if bucket != BUCKET:
            return self._error(404, "NoSuchBucket")
        match request.method:
            case "PUT":
                return self._put(request, key)
            case "GET" if key == "":
                return self._list(request)
            case "GET" | "HEAD":
                return self._get(request, key)
            case "DELETE" if "uploadId" in request.query:
                self.open_uploads.pop(request.query["uploadId"], None)
                return Response(204)
            case "DELETE":
                self.objects.pop(key, None)
                return Response(204)
            case "POST":
                return self._post(request, key)
            case _:
                return self._error(405, "MethodNotAllowed")

    def _put(self, request: Request, key: str) -> Response:
        source = request.headers.get("x-amz-copy-source")
        if source is not None:
            origin = unquote(source).lstrip("/").partition("/")[2]
            if origin not in self.objects:
                return self._error(404, "NoSuchKey")
            self._store(key, self.objects[origin], self.types[origin])
            return self._xml(f"<CopyObjectResult><ETag>{self._etag(key)}</ETag></CopyObjectResult>")
        if "partNumber" in request.query:
            upload = self.open_uploads.get(request.query["uploadId"])
            if upload is None:
                return self._error(404, "NoSuchUpload")
            upload[int(request.query["partNumber"])] = request.body
            return Response(200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
        self._store(key, request.body, request.headers.get("content-type", ""))
        return Response(200, {"ETag": self._etag(key)})

    def _post(self, request: Request, key: str) -> Response:
        if "uploads" in request.query:
            self._serial += 1
            upload_id = f"upload-{self._serial}"
            self.open_uploads[upload_id] = {}
            return self._xml(
                f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )
        if "uploadId" in request.query:
            parts = self.open_uploads.pop(request.query["uploadId"], None)
            if parts is None:
                return self._error(404, "NoSuchUpload")
            self._store(key, b"".join(parts[number] for number in sorted(parts)), "")
            return self._xml(
                f"<CompleteMultipartUploadResult><Key>{escape(key)}</Key>"
                f"<ETag>{self._etag(key)}</ETag></CompleteMultipartUploadResult>"
            )
        if "delete" in request.query:
            keys = re.findall(r"<Key>([^<]*)</Key>", request.body.decode())
            for gone in keys:
                self.objects.pop(gone, None)
            deleted = "".join(f"<Deleted><Key>{escape(gone)}</Key></Deleted>" for gone in keys)
            return self._xml(f"<DeleteResult>{deleted}</DeleteResult>")
        return self._error(400, "InvalidRequest")

    def _get(self, request: Request, key: str) -> Response:
        if key not in self.objects:
            return self._error(404, "NoSuchKey")
        body = self.objects[key]
        headers = {
            "ETag": self._etag(key),
            "Last-Modified": format_datetime(self.modified[key], usegmt=True),
            "Content-Type": self.types[key] or "application/octet-stream",
        }
        if request.headers.get("if-match", headers["ETag"]) != headers["ETag"]:
            return self._error(412, "PreconditionFailed")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            headers["Content-Length"] = str(len(body))
            return Response(200, headers, body)
        start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
        if start >= len(body):
            return self._error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
        return Response(206, headers, body[start : end + 1])

    def _list(self, request: Request) -> Response:
        prefix = request.query.get("prefix", "")
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{self._etag(key)}</ETag>"
            f"<LastModified>{self.modified[key].isoformat()}</LastModified></Contents>"
            for key, body in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return self._xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")

    def _store(self, key: str, body: bytes, content_type: str) -> None:
        self.objects[key], self.types[key] = body, content_type
        self.modified[key] = datetime.now(UTC)

    def _etag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key]).hexdigest()}"'

    @staticmethod
    def _xml(body: str, status: int = 200) -> Response:
        return Response(status, {"Content-Type": "application/xml"}, body.encode())

    @classmethod
    def _error(cls, status: int, code: str) -> Response:
        return cls._xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


@asynccontextmanager
async def serve_s3() -> AsyncIterator[tuple[S3Server, dict[str, str]]]:
    """Yields the server and the options a client needs to reach it."""
    server = S3Server()
    async with serve_http(server.handle) as base_url:
        yield (
            server,
            {
                "endpoint": base_url,
                "access_key_id": ACCESS_KEY,
                "secret_access_key": "not-a-secret",
                "region": "us-east-1",
                "allow_http": "true",
                "virtual_hosted_style_request": "false",
            },
        )
