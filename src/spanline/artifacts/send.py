"""Send the staged files: each is written atomically and read back, `_SUCCESS` is last, one upload at a time per key.

`_SUCCESS` is removed before anything below its key changes, and has the checksum of each file. So a reader gets files
that belong together, or an error.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import tenacity

from spanline.artifacts.compress import ENCODINGS, Damaged, decompressed
from spanline.artifacts.stage import CONTENTS, Contents, StoredFile
from spanline.artifacts.store import AlreadyThere, NotThere, Properties, Store, StoreError
from spanline.home.storage import KEY_FIELDS, Storage

LOCK: Final = "_UPLOADING"
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_LEAVES_THE_KEY: Final = re.compile(r"[\x00-\x20\x7f/\\?#%*\[\]{}\"<>|^`]")
"""What a value of the template may not have in a key: what separates, what URLs and globs give a meaning to."""
_JSON_LINES: Final = "application/x-ndjson"
_TEXT: Final = "text/plain; charset=utf-8"

T = TypeVar("T")


class _Lock(msgspec.Struct, frozen=True):
    """Who is writing below a key, and when it will have ended at the latest, in seconds since the epoch."""

    run_id: str
    by: str
    until: float


def key_of(template: str, contents: Contents) -> str:
    """The key below which an upload is stored, without a slash at its ends."""
    fields = {name: escaped(getattr(contents, name)) for name in KEY_FIELDS}
    return string.Formatter().vformat(template, (), fields).strip("/")


def send(place: Path, contents: Contents, storage: Storage, options: Mapping[str, object]) -> str:
    """Store what is staged in the folder `place`, and return the URL that it is below.

    Raises `StoreError`, after what may pass was tried again until the time is over, and `UsageError` where the store
    can't have what is asked of it.
    """
    store = Store(storage.url, options)
    key = key_of(storage.key, contents)
    until = time.time() + storage.timeout
    properties = _properties(storage)
    store.arguments(properties)  # what can't be had is refused before anything is changed
    plain = msgspec.structs.replace(properties, content_encoding=None)
    lock = _Lock(contents.run_id, f"pid {os.getpid()} on {platform.node()}", until)
    again = _again(until)
    with _alone(store, key, lock, plain, again):
        before = again(lambda: _stored(store, key))
        again(lambda: store.delete(f"{key}/{CONTENTS}"))
        for name, file in contents.files.items():
            again(lambda name=name, file=file: _put(store, key, name, file, place, properties))  # type: ignore[misc]
        now = {file.key for file in contents.files.values()}
        for file in before.files.values() if before is not None else ():
            if file.key not in now:
                again(lambda file=file: store.delete(f"{key}/{file.key}"))  # type: ignore[misc]
        again(lambda: store.put(f"{key}/{CONTENTS}", (place / CONTENTS).read_bytes(), plain))
    return store.url_of(key)


def fetched(store: Store, key: str, file: StoredFile) -> bytes:
    """The content of a stored file, checked. Raises `StoreError`, which passes where another upload is under way."""
    data = store.get(f"{key}/{file.key}")
    try:
        content = decompressed(data)
    except Damaged as error:
        raise StoreError(f"{store.url_of(f'{key}/{file.key}')}: {error}", passing=True) from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise StoreError(f"{store.url_of(f'{key}/{file.key}')} is not what was uploaded", passing=True)
    return content


def _stored(store: Store, key: str) -> Contents | None:
    """What is stored below a key; None where nothing is, or nothing that this version knows."""
    try:
        return msgspec.json.decode(store.get(f"{key}/{CONTENTS}"), type=Contents)
    except (NotThere, msgspec.MsgspecError):
        return None


def _put(store: Store, key: str, name: str, file: StoredFile, place: Path, properties: Properties) -> None:
    kind = {".jsonl": _JSON_LINES, ".log": _TEXT}.get(Path(name).suffix, properties.content_type)
    data = (place / file.key).read_bytes()
    store.put(f"{key}/{file.key}", data, msgspec.structs.replace(properties, content_type=kind))
    fetched(store, key, file)


def _properties(storage: Storage) -> Properties:
    return Properties(
        content_encoding=ENCODINGS[storage.compression],
        storage_class=storage.storage_class,
        encryption_key=storage.encryption_key,
        acl=storage.acl,
    )


def _again(until: float) -> Callable[[Callable[[], T]], T]:
    """What does something, and does it again where it failed for what may pass, as long as there is time."""
    return tenacity.Retrying(
        stop=lambda state: time.time() + state.upcoming_sleep > until,
        wait=tenacity.wait_exponential(_FIRST_WAIT, _LONGEST_WAIT) + tenacity.wait_random(0, _FIRST_WAIT),
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, StoreError) and error.passing),
        reraise=True,
    )


@contextmanager
def _alone(
    store: Store, key: str, lock: _Lock, properties: Properties, again: Callable[[Callable[[], object]], object]
) -> Iterator[None]:
    """Have no other upload below this key meanwhile: wait for one that is under way, take over one that was killed."""
    path = f"{key}/{LOCK}"

    def take() -> bool:
        try:
            store.create(path, msgspec.json.encode(lock), properties)
        except AlreadyThere:
            return False
        return True

    while not again(take):
        holder = _holder(store, path)
        # The run's lease is ours: another of the same run is no more.
        if holder is None or holder.run_id == lock.run_id or holder.until < time.time():
            again(lambda: store.delete(path))
        elif time.time() + _LOOK_SECONDS > lock.until:
            raise StoreError(
                f"{store.url_of(key)}: another upload is under way there, of run {holder.run_id} ({holder.by})",
                passing=True,
            )
        else:
            time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        with suppress(StoreError):
            store.delete(path)


def _holder(store: Store, path: str) -> _Lock | None:
    try:
        return msgspec.json.decode(store.get(path), type=_Lock)
    except (NotThere, msgspec.MsgspecError):
        return None


def escaped(value: str) -> str:
    """A value as it stands in a key: no part of a path, and nothing that URLs and globs give a meaning to."""
    found = _LEAVES_THE_KEY.sub(lambda each: f"%{ord(each[0]):02X}", value)
    return found.replace(".", "%2E") if set(found) <= {"."} else found
