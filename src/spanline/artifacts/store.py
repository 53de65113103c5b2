"""A store: objects below a URL, on any file system that fsspec knows, written whole or not at all.

Finished bytes are written by `pipe_file` and read by `cat_file`: leaving `with fs.open(…)` by an exception publishes
half an object on S3, GCS and Azure alike, and what it reads of a gzip object is cut to its compressed length.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from spanline.errors import UsageError
from spanline.runner.shared.in_text import masked_address
from spanline.runner.shared.masking import Redactor
from spanline.runner.shared.secrets import secrets_of_environment, secrets_of_mapping

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
_ACLS: Final = frozenset(
    (
        *("private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read"),
        *("bucket-owner-read", "bucket-owner-full-control"),
    )
)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl"""
_NOT_READ_AT_ONCE: Final = frozenset(("GLACIER", "DEEP_ARCHIVE", "Archive"))
_LONGEST: Final = 600
_TOO_MANY_REQUESTS: Final = frozenset((408, 429))


class StoreError(Exception):
    """A store can't do what it was asked for. `passing` tells whether it may be able to in a moment."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class NotThere(StoreError):  # noqa: N818
    """There is no such object; nor, perhaps, such a bucket."""


class AlreadyThere(StoreError):  # noqa: N818
    """Somebody has created the object before."""


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """What an object is to have besides its content; each cloud spells it otherwise, and some can't."""

    content_type: str = "application/json"
    content_encoding: str | None = None
    storage_class: str | None = None
    encryption_key: str | None = None
    acl: str | None = None


class Found(msgspec.Struct, frozen=True):
    """An object's key, and when it was written last, in seconds since the epoch by the store's clock."""

    key: str
    modified: float


class Store:
    """What is below a URL. Its keys have no slash at either end."""

    def __init__(self, url: str, options: Mapping[str, object] | None = None) -> None:
        """`options` are fsspec's storage options; without credentials in them the cloud's own variables count.

        Raises `UsageError` where there is no file system for the URL.
        """
        self._options = dict(options or {})
        self.url = url.rstrip("/")
        self._scheme = url.partition("://")[0]
        self._files, self._root = self._file_system()

    def url_of(self, key: str) -> str:
        """The address of an object."""
        return f"{self.url}/{key}"

    def arguments(self, properties: Properties) -> dict[str, object]:
        """How this store's implementation spells the properties. Raises `UsageError` where it can't have them."""
        return _SPELT.get(self._scheme, _not_at_all)(properties)

    def put(self, key: str, data: bytes, properties: Properties) -> None:
        """Write an object, in place of one that is there. Raises `StoreError`, and `UsageError` as `arguments` does."""
        arguments = self.arguments(properties)
        with self._errors(key, " (is there such a bucket, and may it be seen?)"):
            if self._is_local:
                self._replace(key, data)
            else:
                self._files.pipe_file(self._path(key), data, **arguments)

    def create(self, key: str, data: bytes, properties: Properties) -> None:
        """Write an object that isn't there yet. Raises `AlreadyThere`, and as `put` does."""
        arguments = self.arguments(properties)
        with self._errors(key, " (is there such a bucket, and may it be seen?)"):
            if self._is_local:
                self._files.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)
                with open(self._path(key), "xb") as file:
                    file.write(data)
            else:
                self._files.pipe_file(self._path(key), data, mode="create", **arguments)

    def get(self, key: str) -> bytes:
        """The object as it is given to us, which may be compressed or not. Raises `NotThere`, and `StoreError`."""
        with self._errors(key):
            return bytes(self._files.cat_file(self._path(key)))

    def delete(self, key: str) -> None:
        """Remove an object; one that isn't there is none. Raises `StoreError`."""
        with contextlib.suppress(NotThere), self._errors(key):
            self._files.rm_file(self._path(key))

    def find(self, prefix: str) -> list[Found]:
        """Every object below a prefix that ends with a slash, or is empty. Raises `StoreError`."""
        folder = self._path(prefix).rstrip("/")
        with self._errors(prefix):
            try:
                listed: Mapping[str, Mapping[str, object]] = self._files.find(folder, detail=True)
            except FileNotFoundError:
                return []
            start = len(self._files._strip_protocol(self._root)) + 1
            return [Found(path[start:], modified(info)) for path, info in listed.items()]

    @property
    def _is_local(self) -> bool:
        return self._scheme in ("file", "local")

    def _replace(self, key: str, data: bytes) -> None:
        """A file of this machine is written beside its place first: others see it whole, or not."""
        path = self._path(key)
        folder, _, name = path.rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        part = f"{folder}/.{name}.{uuid.uuid4().hex}"
        try:
            self._files.pipe_file(part, data)
            os.replace(part, path)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(part)
            raise

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _file_system(self) -> tuple[AbstractFileSystem, str]:
        extra = _EXTRAS.get(self._scheme, "artifacts")
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - only who stores needs it

            # Listings that are kept would hide what others write, an instance that is kept what the environment says.
            files, root = url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True, **self._options)
        except ImportError as error:
            raise UsageError(
                f"storing in {self._scheme}://… needs its client: pip install 'spanline[{extra}]' ({error})"
            ) from error
        except (ValueError, TypeError, OSError) as error:
            raise UsageError(f"cannot store in {self.url}: {self._said(error)}") from None
        return files, str(root).rstrip("/")

    @contextlib.contextmanager
    def _errors(self, key: str, if_not_there: str = "") -> Iterator[None]:
        """Say an error in our words: every implementation has its own, for credentials, names and networks."""
        try:
            yield
        except Exception as error:
            said, passing = f"{self.url_of(key)}: {self._said(error)}", _passes(error)
            if isinstance(error, FileNotFoundError) or _status(error) == 404:
                raise NotThere(f"{said}{if_not_there}", passing=False) from error
            if isinstance(error, FileExistsError) or _status(error) == 412:
                raise AlreadyThere(said, passing=False) from error
            raise StoreError(said, passing=passing) from error

    def _said(self, error: Exception) -> str:
        """The kind of an error and its first line, without secrets."""
        line = next(iter(str(error).strip().splitlines()), "")
        secrets = [*secrets_of_environment(os.environ), *secrets_of_mapping(self._options)]
        return masked_address(Redactor(secrets).text(f"{type(error).__name__}: {line}"))[:_LONGEST]


# --- how each cloud spells what an object has -------------------------------------------------------------------------


def _of_s3(properties: Properties) -> dict[str, object]:
    """Parameters of https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html; s3fs drops what isn't one."""
    if properties.acl is not None and properties.acl not in _ACLS:
        raise UsageError(f"artifacts.acl: S3 has no canned ACL {properties.acl!r}; it has {', '.join(sorted(_ACLS))}")
    _check_can_be_read(properties.storage_class)
    key = properties.encryption_key
    return _given(
        ContentType=properties.content_type,
        ContentEncoding=properties.content_encoding,
        StorageClass=properties.storage_class,
        ServerSideEncryption="aws:kms" if key is not None else None,
        SSEKMSKeyId=key,
        ACL=properties.acl,
    )


def _of_gcs(properties: Properties) -> dict[str, object]:
    """Arguments of gcsfs's `pipe_file`, which can't set the rest."""
    _refuse(properties, "gcsfs", "set the bucket's default", ("storage_class", "encryption_key", "acl"))
    if properties.content_encoding == "zstd":
        return {"content_type": "application/zstd"}  # gcsfs's client, aiohttp, can't read such a coding everywhere
    fixed = _given(content_encoding=properties.content_encoding)
    return {"content_type": properties.content_type, **({"fixed_key_metadata": fixed} if fixed else {})}


def _of_azure(properties: Properties) -> dict[str, object]:
    """Parameters of azure-storage-blob's `upload_blob`, to which adlfs passes them."""
    from azure.storage.blob import ContentSettings, StandardBlobTier  # noqa: PLC0415 - adlfs has brought it

    _refuse(properties, "Azure", "give rights to the container", ("acl",))
    _check_can_be_read(properties.storage_class)
    tiers = {tier.value: tier for tier in StandardBlobTier}
    if properties.storage_class not in (None, *tiers):
        known = ", ".join(sorted(tiers))
        raise UsageError(f"artifacts.storage_class: Azure has no tier {properties.storage_class!r}; it has {known}")
    return _given(
        content_settings=ContentSettings(
            content_type=properties.content_type, content_encoding=properties.content_encoding
        ),
        standard_blob_tier=tiers.get(properties.storage_class or ""),
        encryption_scope=properties.encryption_key,
    )


def _not_at_all(properties: Properties) -> dict[str, object]:
    """A file system, which keeps a content and nothing else."""
    _refuse(properties, "a plain file system", "leave it out", ("storage_class", "encryption_key", "acl"))
    return {}


_SPELT: Final[Mapping[str, Callable[[Properties], dict[str, object]]]] = {
    **dict.fromkeys(("s3", "s3a"), _of_s3),
    **dict.fromkeys(("gs", "gcs"), _of_gcs),
    **dict.fromkeys(("abfs", "abfss", "az"), _of_azure),
}


def _refuse(properties: Properties, who: str, instead: str, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(properties, name) is not None:
            raise UsageError(f"artifacts.{name}: {who} cannot set it for an object: {instead}")


def _check_can_be_read(storage_class: str | None) -> None:
    if storage_class in _NOT_READ_AT_ONCE:
        raise UsageError(
            f"artifacts.storage_class: an object in {storage_class} cannot be read back or verified: "
            "use a lifecycle rule to move it there"
        )


def _given(**arguments: object) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if value is not None}


# --- what implementations say -----------------------------------------------------------------------------------------


_LASTING: Final = (
    *(FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError),
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ImportError),
)


def _passes(error: Exception) -> bool:
    """Whether what failed may succeed in a moment: the network, and a server that is busy or broken."""
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _TOO_MANY_REQUESTS
    if isinstance(error, _LASTING):
        return False
    return not any(word in type(error).__name__ for word in ("Credential", "Authentication", "Validation"))


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of a client has, wherever it keeps it."""
    response = getattr(error, "response", None)
    of_botocore = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    for value in (of_botocore, getattr(error, "status_code", None), getattr(error, "code", None)):
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None if error.__cause__ is None else _status(error.__cause__)


_TIMES: Final = ("LastModified", "last_modified", "mtime", "updated", "created")


def modified(info: Mapping[str, object]) -> float:
    """When an object was last written, in seconds since the epoch, by what a listing says of it; 0 where it doesn't."""
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return 0.0
