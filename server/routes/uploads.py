"""Sales files that come in by request, kept under the digest of their bytes."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from server.operations import Ask, Operation, Reply, in_thread, reply
from server.problems import Failure
from server.schemas import NoQuery

SUFFIXES = {"text/csv": ".csv", "application/vnd.apache.parquet": ".parquet"}
PARQUET = b"PAR1"


async def upload_sales(ask: Ask[NoQuery, bytes]) -> Reply:
    """Keep a table of past sales, one row per item and period; the answer's `sales` goes into a fit."""
    if not ask.body:
        raise Failure("unprocessable", "The body is empty; send the file itself.")
    suffix = SUFFIXES[ask.headers["content-type"].partition(";")[0].strip().lower()]
    if (suffix == ".parquet") != ask.body.startswith(PARQUET):
        raise Failure("unprocessable", "The content type and the file do not agree; send CSV as text/csv.")
    name = await in_thread(keep_upload, ask.service.settings.uploads_dir, ask.body, suffix)
    return reply({"sales": f"upload:{name}", "id": name, "size_bytes": len(ask.body), "format": suffix[1:]}, status=201)


def keep_upload(folder: Path, content: bytes, suffix: str) -> str:
    """Write a file under its SHA-256, whole or not at all; what is there already stays."""
    name = hashlib.sha256(content).hexdigest()
    target = folder / f"{name}{suffix}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).replace(target)
    return name


OPERATIONS = (
    Operation(
        method="POST", path="/v1/uploads", handler=upload_sales, body=bytes, media=tuple(SUFFIXES),
        answer="UploadAnswer", scope="fits:run", status=201, problems=(422,),
    ),
)  # fmt: skip
