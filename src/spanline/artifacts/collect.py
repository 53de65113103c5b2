"""Keep the artifacts of one invocation: copied out of the target path, whole, and of no other invocation.

Two dbt that share a target path write over each other's files. dbt truncates a file and writes it in pieces, so what
is left may be a piece of each: https://docs.getdbt.com/reference/artifacts/dbt-artifacts.
"""

from __future__ import annotations

import mmap
import uuid
from pathlib import Path

import msgspec

from spanline.system import files


class Mixed(Exception):  # noqa: N818
    """An artifact is no JSON: it was cut off, or another dbt has written to the same file at the same time."""


class _Metadata(msgspec.Struct, frozen=True):
    invocation_id: str | None = None


class _Artifact(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


def keep(path: Path, place: Path, invocation_id: str | None) -> Path | None:
    """Copy an artifact into the folder `place`, which is made where it isn't there, and return the copy.

    None where another invocation wrote it, or where it doesn't say which did (the semantic manifest).
    Raises `Mixed`, and `OSError`.
    """
    files.make_folder(place, parents=False)
    # The copy is what is looked at: the file itself may be another dbt's a moment later.
    copy = place / f".{uuid.uuid4().hex}"
    try:
        files.copy(path, copy)
        if _invocation_of(copy) != invocation_id:
            return None
        return copy.replace(place / path.name)
    finally:
        copy.unlink(missing_ok=True)


def _invocation_of(file: Path) -> str | None:
    try:
        # A manifest may be as large as 100 MB: mapped, it is memory that the system can have back.
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return msgspec.json.decode(text, type=_Artifact).metadata.invocation_id
    except (msgspec.MsgspecError, ValueError) as error:  # an empty file can't be mapped
        raise Mixed(f"{error}; another dbt may have written it at the same time, to the same target path") from error
