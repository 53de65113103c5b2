"""Load dbt's artifacts. The outcome is one of absent, invalid, wrong version, or loaded.

Only the parts named in the types below are read, and the rest of the file is skipped. For a large manifest, this takes
a fraction of the time and the memory: https://docs.getdbt.com/reference/artifacts/dbt-artifacts.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final, Generic, Literal, TypeVar, overload

import msgspec

from spanline.artifacts import piecewise
from spanline.artifacts.compress import SUFFIXES, Damaged, decompressed, is_compressed
from spanline.errors import UsageError
from spanline.runner.shared import settings

Kind = Literal["manifest", "run_results", "catalog", "sources", "semantic_manifest"]

VERSIONS: Final[Mapping[Kind, range | None]] = {
    "manifest": range(10, 13),
    "run_results": range(4, 7),
    "catalog": range(1, 2),
    "sources": range(3, 4),
    "semantic_manifest": None,
}
"""The versions of dbt's schemas that are read, those of dbt 1.6 and later; a semantic manifest doesn't say its own."""

_DEFAULT_FOLDER: Final = "target"
_VERSION: Final = re.compile(r"/v(\d+)(?:\.json)?$")

log = logging.getLogger("spanline")


class Metadata(msgspec.Struct, frozen=True):
    """Who wrote an artifact, and when (ISO 8601)."""

    dbt_schema_version: str = ""
    dbt_version: str = ""
    generated_at: str = ""
    invocation_id: str | None = None
    project_name: str | None = None
    adapter_type: str | None = None


class DependsOn(msgspec.Struct, frozen=True, gc=False):
    """The unique ids that a node depends on."""

    nodes: list[str] = []
    macros: list[str] = []


class Node(msgspec.Struct, frozen=True):
    """A node, or a source, of a manifest."""

    unique_id: str
    resource_type: str
    name: str
    package_name: str
    original_file_path: str
    database: str | None = None
    schema: str | None = None
    alias: str | None = None
    relation_name: str | None = None
    tags: list[str] = []
    depends_on: DependsOn = DependsOn()


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json`: nodes and what they depend on, by unique id."""

    metadata: Metadata
    nodes: dict[str, Node]
    sources: dict[str, Node] = {}
    exposures: dict[str, Node] = {}


class Result(msgspec.Struct, frozen=True):
    """The result of one node. `execution_time` is in seconds."""

    unique_id: str
    status: str
    execution_time: float = 0.0
    message: str | None = None
    failures: int | None = None
    relation_name: str | None = None


class RunResults(msgspec.Struct, frozen=True):
    """`run_results.json`. `elapsed_time` is in seconds."""

    metadata: Metadata
    results: list[Result]
    elapsed_time: float = 0.0
    args: dict[str, object] = {}


class CatalogColumn(msgspec.Struct, frozen=True):
    """A column as the warehouse describes it."""

    name: str
    type: str
    index: int
    comment: str | None = None


class CatalogTable(msgspec.Struct, frozen=True):
    """A relation as the warehouse describes it: its columns by their names."""

    columns: dict[str, CatalogColumn]
    unique_id: str | None = None


class Catalog(msgspec.Struct, frozen=True):
    """`catalog.json`: relations by the unique id of their node or source."""

    metadata: Metadata
    nodes: dict[str, CatalogTable]
    sources: dict[str, CatalogTable]
    errors: list[str] | None = None


class Freshness(msgspec.Struct, frozen=True):
    """How fresh a source is: `max_loaded_at` and `snapshotted_at` are ISO 8601, the age is in seconds."""

    unique_id: str
    status: str
    max_loaded_at: str | None = None
    snapshotted_at: str | None = None
    max_loaded_at_time_ago_in_s: float | None = None
    error: str | int | None = None


class Sources(msgspec.Struct, frozen=True):
    """`sources.json`, which `dbt source freshness` writes."""

    metadata: Metadata
    results: list[Freshness]
    elapsed_time: float = 0.0


class SemanticObject(msgspec.Struct, frozen=True):
    """A semantic model, metric or saved query."""

    name: str
    description: str | None = None


class SemanticManifest(msgspec.Struct, frozen=True):
    """`semantic_manifest.json`."""

    semantic_models: list[SemanticObject]
    metrics: list[SemanticObject]
    saved_queries: list[SemanticObject] = []


Content_co = TypeVar("Content_co", covariant=True)


class Loaded(msgspec.Struct, Generic[Content_co], frozen=True):
    """The artifact exists and is complete. `version` is that of dbt's schema, or None if the artifact has none."""

    path: Path
    version: int | None
    content: Content_co


class Absent(msgspec.Struct, frozen=True):
    """There is no such file."""

    path: Path

    def __str__(self) -> str:
        return f"there is no {self.path}"


class Invalid(msgspec.Struct, frozen=True):
    """The file can't be read, or is not such an artifact: empty, cut off, other JSON."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is not a complete artifact: {self.reason}"


class WrongVersion(msgspec.Struct, frozen=True):
    """The artifact has an unknown version of dbt's schema. `found` is the version that it names."""

    path: Path
    found: str
    known: str

    def __str__(self) -> str:
        return f"{self.path} has the schema {self.found or 'of no version'}: known are the versions {self.known}"


_CONTENTS: Final[Mapping[Kind, type[msgspec.Struct]]] = {
    "manifest": Manifest,
    "run_results": RunResults,
    "catalog": Catalog,
    "sources": Sources,
    "semantic_manifest": SemanticManifest,
}


@overload
def load(kind: Literal["manifest"], path: str | Path) -> Loaded[Manifest] | Absent | Invalid | WrongVersion: ...
@overload
def load(kind: Literal["run_results"], path: str | Path) -> Loaded[RunResults] | Absent | Invalid | WrongVersion: ...
@overload
def load(kind: Literal["catalog"], path: str | Path) -> Loaded[Catalog] | Absent | Invalid | WrongVersion: ...
@overload
def load(kind: Literal["sources"], path: str | Path) -> Loaded[Sources] | Absent | Invalid | WrongVersion: ...
@overload
def load(
    kind: Literal["semantic_manifest"], path: str | Path
) -> Loaded[SemanticManifest] | Absent | Invalid | WrongVersion: ...
@overload
def load(kind: Kind, path: str | Path) -> Loaded[object] | Absent | Invalid | WrongVersion: ...


def load(kind: Kind, path: str | Path) -> Loaded[object] | Absent | Invalid | WrongVersion:
    """Load a dbt artifact. `path` is the file or its folder; the file may be compressed.

    It does not raise for a missing file or for bad content: the outcome tells.
    """
    file = _file(kind, Path(path))
    try:
        with _opened(file) as text:
            return _loaded(kind, file, text)
    except (FileNotFoundError, NotADirectoryError):
        return Absent(file)
    except (OSError, Damaged, UsageError, msgspec.MsgspecError, ValueError) as error:
        return Invalid(file, str(error))


def _loaded(kind: Kind, file: Path, text: IO[bytes]) -> Loaded[object] | WrongVersion:
    try:
        for found in piecewise.read(text, _CONTENTS[kind]):
            if isinstance(found, tuple):
                # Before the rest, which another version may have otherwise.
                wrong = _wrong_version(kind, file, found[1]) if found[0] == "metadata" else None
                if wrong is not None:
                    return wrong
            else:
                return Loaded(file, _version_of(kind, found), found)
    except (msgspec.MsgspecError, ValueError):
        text.seek(0)
    # What is wrong is said of the whole; or nothing is, but that a newer msgspec has other words.
    content = msgspec.json.decode(text.read(), type=_CONTENTS[kind])
    return _wrong_version(kind, file, getattr(content, "metadata", None)) or Loaded(
        file, _version_of(kind, content), content
    )


def _wrong_version(kind: Kind, file: Path, metadata: object) -> WrongVersion | None:
    versions = VERSIONS[kind]
    if versions is None or not isinstance(metadata, Metadata):
        return None
    said = metadata.dbt_schema_version
    known = _version(kind, said) in versions
    return None if known else WrongVersion(file, said, f"{versions.start} to {versions.stop - 1}")


def _version_of(kind: Kind, content: object) -> int | None:
    metadata = getattr(content, "metadata", None)
    return _version(kind, metadata.dbt_schema_version) if isinstance(metadata, Metadata) else None


def _version(kind: Kind, said: str) -> int | None:
    """The version in `https://schemas.getdbt.com/dbt/manifest/v12.json`; None of another artifact's."""
    found = _VERSION.search(said)
    return int(found[1]) if found is not None and f"/{kind.replace('_', '-')}/" in said else None


def _file(kind: Kind, path: Path) -> Path:
    if not path.is_dir():
        return path
    named = [path / f"{kind}.json{suffix}" for suffix in SUFFIXES.values()]
    return next((file for file in named if file.exists()), path / f"{kind}.json")


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The text of a file, which may be compressed. Raises `OSError`, `Damaged`, `UsageError`.

    It is read, not mapped: dbt truncates its artifacts to write them anew, and whoever reads a mapped file that is
    truncated is killed.
    """
    with file.open("rb") as opened:
        first = opened.read(4)
        opened.seek(0)
        if not first:
            raise Damaged("it is empty")
        yield io.BytesIO(decompressed(opened.read())) if is_compressed(first) else opened


# --- the short forms --------------------------------------------------------------------------------------------------


def get_manifest(folder: str | Path | None = None) -> dict[str, object]:
    """All of `manifest.json`. See `get_artifact`."""
    return get_artifact("manifest", folder)


def get_run_results(folder: str | Path | None = None) -> dict[str, object]:
    """All of `run_results.json`. See `get_artifact`."""
    return get_artifact("run_results", folder)


def get_catalog(folder: str | Path | None = None) -> dict[str, object]:
    """All of `catalog.json`. See `get_artifact`."""
    return get_artifact("catalog", folder)


def get_sources(folder: str | Path | None = None) -> dict[str, object]:
    """All of `sources.json`. See `get_artifact`."""
    return get_artifact("sources", folder)


def get_artifact(kind: Kind, folder: str | Path | None = None) -> dict[str, object]:
    """All of an artifact as plain data, from dbt's target folder (default: `DBT_TARGET_PATH`, else `target`).

    Empty if there is none (logged as DEBUG), or if it is invalid (as ERROR). Callers that must tell the two apart use
    `load`. An artifact of an unknown version is returned with a WARNING.
    """
    place = Path(folder) if folder is not None else Path(os.environ.get(settings.DBT_TARGET_PATH) or _DEFAULT_FOLDER)
    outcome = load(kind, place)
    if isinstance(outcome, Absent):
        log.debug("%s", outcome)
        return {}
    if isinstance(outcome, WrongVersion):
        log.warning("%s", outcome)
    try:
        if not isinstance(outcome, Invalid):
            with _opened(outcome.path) as text:
                return msgspec.json.decode(text.read(), type=dict[str, object])
    except (OSError, Damaged, msgspec.MsgspecError) as error:
        outcome = Invalid(outcome.path, str(error))
    log.error("%s", outcome)
    return {}
