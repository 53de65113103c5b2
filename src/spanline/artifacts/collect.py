"""Copy the artifacts and the log of one invocation from the target path: complete, and of no other invocation.

Two dbt processes that share a target path overwrite each other's files. dbt truncates a file and writes it in pieces,
so a file may mix both: https://docs.getdbt.com/reference/artifacts/dbt-artifacts.
"""

from __future__ import annotations

import mmap
import re
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from spanline.system import files

LOG_NAME: Final = "dbt.log"
_BEGINS: Final = re.compile(r"={30} [\d:.]+ \| ([0-9a-f-]{36}) ={30}")
_OF_JSON: Final = re.compile(r'"invocation_id": ?"([0-9a-f-]{36})"')


class Mixed(Exception):  # noqa: N818
    """An artifact is not JSON: it was cut off, or another dbt wrote to the same file at the same time."""


class _Metadata(msgspec.Struct, frozen=True):
    invocation_id: str | None = None


class _Artifact(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


def keep(path: Path, place: Path, invocation_id: str | None) -> Path | None:
    """Copy an artifact into the folder `place`, which is created if needed, and return the copy.

    Returns None if another invocation wrote it, or if it does not say which one did (the semantic manifest).
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
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # an empty file can't be mapped
        raise Mixed(f"{error}; another dbt may have written it at the same time, to the same target path") from error


def log_lines(folder: Path, invocation_ids: Collection[str]) -> Iterator[str]:
    """What dbt's log files, the older first, hold of these invocations. Raises `OSError`.

    dbt appends to one file for all invocations, and says at the beginning of each which it is; as JSON in every line.
    Lines of two that log at the same time can't be told apart but as JSON.
    """
    mine = False
    for file in sorted(folder.glob(f"{LOG_NAME}*"), key=_age, reverse=True):
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                found = _OF_JSON.search(line) if line.startswith("{") else _BEGINS.search(line)
                if found is not None:
                    mine = found[1] in invocation_ids
                if mine:
                    yield line


def _age(file: Path) -> int:
    """The number that dbt gives to a log that it has put aside, `dbt.log.1`: the higher, the older."""
    number = file.suffix.removeprefix(".")
    return int(number) if number.isdecimal() else 0
