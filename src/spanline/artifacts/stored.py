"""The latest artifacts that are stored: found by their `_SUCCESS`, and fetched as what belongs together."""

from __future__ import annotations

import os
import re
import shutil
import string
import uuid
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final

import msgspec
import tenacity

from spanline.artifacts.loading import VERSIONS
from spanline.artifacts.send import escaped, fetched
from spanline.artifacts.stage import CONTENTS, Contents
from spanline.artifacts.store import Found, NotThere, Store, StoreError
from spanline.errors import ArtifactsNotFound, UsageError
from spanline.home.storage import DEFAULT_KEY, storage_of, storage_options_of

MANIFEST: Final = "manifest.json"
_TRIES: Final = 5
_LONGEST_WAIT: Final = 5.0


class Stored:
    """The artifacts of one session, as they are stored below `url`."""

    def __init__(self, store: Store, key: str, contents: Contents) -> None:
        self.contents = contents
        self._store = store
        self._key = key

    @property
    def url(self) -> str:
        """What they are below."""
        return self._store.url_of(self._key)

    def read(self, name: str) -> bytes:
        """The content of a file, such as `manifest.json`, checked. Raises `ArtifactsNotFound`, `UsageError`."""
        file = self.contents.files.get(name)
        if file is None:
            raise ArtifactsNotFound(f"{self.url} has no {name}; it has {', '.join(sorted(self.contents.files))}")
        try:
            return fetched(self._store, self._key, file)
        except StoreError as error:
            raise UsageError(str(error)) from error

    def download(self, folder: str | Path) -> Path:
        """Fetch dbt's artifacts into a folder, in place of what is in it of their kind, and return the folder.

        All of them or none. Raises `UsageError`, and `OSError`.
        """
        place = Path(folder).absolute()
        new = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
        new.mkdir(parents=True)
        try:
            for name in self.contents.files:
                if name.endswith(".json"):
                    (new / name).write_bytes(self.read(name))
            place.mkdir(exist_ok=True)
            for kind in VERSIONS:
                (place / f"{kind}.json").unlink(missing_ok=True)
            for file in new.iterdir():
                file.replace(place / file.name)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return place


def latest(
    url: str | None = None,
    *,
    dag: str | None = None,
    task: str | None = None,
    run: str | None = None,
    outcome: str | None = "success",
    having: str = MANIFEST,
    key: str | None = None,
    storage_options: Mapping[str, object] | None = None,
) -> Stored:
    """The latest artifacts below a URL (default: `SPANLINE_ARTIFACTS_URL`) of this DAG, task and run, where given.

    Outside Airflow the DAG is the project, the task dbt's command. Those count whose session had this `outcome` (None:
    any) and that have the file `having`. `key` is the template by which they were stored.
    Raises `ArtifactsNotFound` where there are none, `UsageError` where the store can't be read.
    """
    asked = storage_of(os.environ, url)
    if asked is None:
        raise UsageError("no storage is configured: give a URL, or set SPANLINE_ARTIFACTS_URL")
    template = (key or asked.key or DEFAULT_KEY).strip("/")
    store = Store(asked.url, storage_options_of(os.environ) if storage_options is None else storage_options)
    known = {name: value for name, value in (("dag", dag), ("task", task), ("run", run)) if value is not None}
    try:
        for stored in _newest_first(store, template, known):
            if outcome in (None, stored.contents.outcome) and having in stored.contents.files:
                return stored
    except StoreError as error:
        raise UsageError(str(error)) from error
    of_what = " ".join(f"{name} {value}" for name, value in known.items())
    whose = f" of {of_what}" if of_what else ""
    raise ArtifactsNotFound(
        f"{store.url} has no artifacts{whose}{f', from a session with outcome {outcome}' if outcome else ''}"
    )


def _newest_first(store: Store, template: str, known: Mapping[str, str]) -> Iterator[Stored]:
    pattern = _pattern(template, known)
    found = [each for each in store.find(_beginning(template, known)) if pattern.fullmatch(each.key)]
    # Some stores know the second only: within one the session that has ended last counts.
    for _, together in groupby(sorted(found, key=attrgetter("modified"), reverse=True), attrgetter("modified")):
        stored = filter(None, (_stored(store, each) for each in together))
        yield from sorted(stored, key=lambda each: each.contents.ended, reverse=True)


@tenacity.retry(
    stop=tenacity.stop_after_attempt(_TRIES),
    wait=tenacity.wait_exponential(0.2, _LONGEST_WAIT) + tenacity.wait_random(0, 0.2),
    retry=tenacity.retry_if_exception(lambda error: isinstance(error, StoreError) and error.passing),
    reraise=True,
)
def _stored(store: Store, found: Found) -> Stored | None:
    """What this `_SUCCESS` tells of; None where it is being replaced, or is of a version that isn't known."""
    try:
        contents = msgspec.json.decode(store.get(found.key), type=Contents)
    except (NotThere, msgspec.MsgspecError):
        return None
    return Stored(store, found.key.removesuffix(CONTENTS).rstrip("/"), contents)


def _pattern(template: str, known: Mapping[str, str]) -> re.Pattern[str]:
    """What a key matches that was made by the template with these values, whatever the others are."""
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(re.escape(text))
        if name is not None:
            parts.append(re.escape(escaped(known[name])) if name in known else "[^/]+")
    return re.compile(f"{''.join(parts)}/{re.escape(CONTENTS)}")


def _beginning(template: str, known: Mapping[str, str]) -> str:
    """The folder below which all of them are."""
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if name is None:
            continue
        if name not in known:
            break
        parts.append(escaped(known[name]))
    folder, slash, _ = "".join(parts).rpartition("/")
    return folder + slash
