"""What a database says of a query: the judge's evidence, one JSON line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec


class Table(msgspec.Struct, frozen=True):
    """A relation that the query may read, as the database has it."""

    relation: tuple[str | None, str | None, str]
    columns: tuple[tuple[str, str], ...]


class Influence(msgspec.Struct, frozen=True):
    """An input column, and the places of the output columns that changed when it was changed; -1 for the rows."""

    table: str
    column: str
    places: tuple[int, ...]


class Answer(msgspec.Struct, frozen=True):
    """A query, and the columns that the database makes of it."""

    dialect: str
    source: str
    sql: str
    tables: tuple[Table, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    influences: tuple[Influence, ...] = ()


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Answer)


def write(path: Path, answer: Answer) -> None:
    """Append an answer."""
    with path.open("ab") as file:
        file.write(_ENCODER.encode(answer) + b"\n")


def read(path: Path) -> Iterator[Answer]:
    """The answers of a file; a line that a killed process has left half written is skipped."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield _DECODER.decode(line)
        except msgspec.DecodeError:
            continue
