"""Storage: where and how a run's artifacts are stored, and what is cut from them first. Part of the run's spec.

`SPANLINE_ARTIFACTS_URL` turns it on. Each other field has a variable of the same form (`SPANLINE_ARTIFACTS_KEY`, …).
Credentials do not belong here: use the cloud's own variables, or fsspec's storage options.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from spanline.errors import UsageError
from spanline.runner.shared import settings
from spanline.runner.shared.secrets import secrets_of_address

DEFAULT_KEY: Final = "dbt-artifacts/{dag}/{task}/{run}/"
KEY_FIELDS: Final = ("dag", "task", "run", "project", "command", "run_id")

Codec = Literal["gzip", "zstd", "none"]

T = TypeVar("T")


class Redaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is cut from artifacts before they are stored, besides secrets: docs/artifacts.md says what each field cuts.

    `env_vars` names variables whose values are cut like secrets. `meta_keys` names keys that are dropped from `meta`.
    In both, `*` matches anything.
    """

    env_vars: tuple[str, ...] = ()
    vars: Literal["secret", "all"] = "all"
    profile: Literal["secret", "all"] = "secret"
    sql: Literal["keep", "literals", "drop"] = "keep"
    columns: Literal["keep", "hash"] = "keep"
    meta_keys: tuple[str, ...] = ()
    macros: Literal["keep", "drop"] = "keep"

    @classmethod
    def parse(cls, text: str) -> Redaction:
        """Read `sql=literals macros=drop meta_keys=owner,pii_*`. Raises `UsageError`."""
        fields: dict[str, object] = {}
        for pair in text.split():
            name, _, value = pair.partition("=")
            fields[name] = value.split(",") if name in ("env_vars", "meta_keys") else value
        return _converted(fields, cls, "redaction")


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where artifacts go: below `url`, any URL that fsspec supports (`s3://`, `gs://`, `abfs://`, `file://`).

    `key` is a template of `KEY_FIELDS`. `encryption_key` names a key in the cloud (S3: a KMS key; Azure: an encryption
    scope), and `acl` is a canned ACL of S3. `timeout` limits the whole upload, in seconds.
    """

    url: str
    key: str = DEFAULT_KEY
    compression: Codec = "gzip"
    storage_class: str | None = None
    encryption_key: str | None = None
    acl: str | None = None
    redaction: Redaction = Redaction()
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 120.0

    def check(self) -> Storage:
        """Return the same. Raises `UsageError` if a value does not have its declared type, or can't work."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        if isinstance(self.redaction, Redaction):
            fields["redaction"] = msgspec.structs.asdict(self.redaction)
        checked = _converted(fields, Storage, "artifacts")
        scheme, found, _ = checked.url.partition("://")
        if not found or not scheme:
            raise UsageError(
                f"artifacts.url: {checked.url!r} is not a URL such as s3://bucket/prefix or file:///folder"
            )
        if "?" in checked.url or any(secrets_of_address(checked.url)):
            raise UsageError("artifacts.url: leave out the password or query: pass credentials in the environment")
        _check_key(checked.key)
        return checked


def storage_of(environ: Mapping[str, str], url: str | None = None) -> Storage | None:
    """The storage that the environment's variables ask for; `url` stands for the variable. Raises `UsageError`."""
    asked = {
        name: environ.get(f"{settings.ARTIFACTS_PREFIX}{name.upper()}", "").strip()
        for name in Storage.__struct_fields__
    }
    fields: dict[str, object] = {name: value for name, value in asked.items() if value}
    if url:
        fields["url"] = url
    if "url" not in fields:
        return None
    if "redaction" in fields:
        fields["redaction"] = Redaction.parse(asked["redaction"])
    if "timeout" in fields:
        fields["timeout"] = _number(asked["timeout"])
    return Storage(**fields).check()  # type: ignore[arg-type]


def storage_options_of(environ: Mapping[str, str]) -> dict[str, object]:
    """What fsspec calls storage options, of the environment. Raises `UsageError`, which doesn't quote them."""
    text = environ.get(settings.ARTIFACTS_STORAGE_OPTIONS, "").strip()
    try:
        return msgspec.json.decode(text, type=dict[str, object]) if text else {}
    except msgspec.DecodeError:
        raise UsageError(
            f'{settings.ARTIFACTS_STORAGE_OPTIONS} is not a JSON object such as {{"endpoint_url": "http://…"}}'
        ) from None


def _check_key(key: str) -> None:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(key) if name is not None]
    except ValueError as error:
        raise UsageError(f"artifacts.key: {key!r}: {error}") from error
    wrong = [name for name in fields if name not in KEY_FIELDS]
    if wrong:
        known = ", ".join(f"{{{name}}}" for name in KEY_FIELDS)
        raise UsageError(f"artifacts.key: unknown field {{{wrong[0]}}}; the fields are {known}")
    if any(part in (".", "..") for part in key.split("/")):
        raise UsageError(f"artifacts.key: {key!r} leads outside the URL")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{settings.ARTIFACTS_PREFIX}TIMEOUT: {text!r} is not a number of seconds") from None


def _converted(fields: Mapping[str, object], kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        raise UsageError(f"{what}{f'.{place}' if place else ''}: {said}") from error
