"""Cut from dbt's artifacts what not every reader of the store may see, and count what was cut.

By value: secrets of the environment, of `--vars` and of the profile, wherever they appear (dbt renders them into `meta`
and `compiled_code`, and writes raw `--vars` into `run_results.json`). By rule: what `Redaction` names. A redacted
artifact is still valid according to dbt's schema. `partial_parse.msgpack` contains everything, and is never stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from spanline.home.storage import Redaction
from spanline.runner.shared import settings
from spanline.runner.shared.in_text import MASK
from spanline.runner.shared.telling import looks_secret

ENV_VARS, VARS, PROFILE, SQL = "env_vars", "vars", "profile", "sql"
COLUMNS, META_KEYS, MACROS = "columns", "meta_keys", "macros"
"""The rules, by which a report counts."""

_SQL_KEYS: Final = frozenset(("compiled_code", "raw_code", "compiled_sql", "raw_sql", "sql", "statement"))
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_LOGGED_VARS: Final = re.compile(r"(?<=, vars: )\{.*\}(?=, profile:)")
_TEST_ID: Final = re.compile(r"\b(test\.\w+\.)(\w+)(\.[0-9a-f]{10})\b")
"""The id of a generic test, whose name dbt makes of the columns' names."""
_TEST_NAMES: Final = ("name", "alias", "path", "build_path", "compiled_path", "relation_name")
_WORD: Final = re.compile(r"[^\W\d]\w*")
_KEYED_BY_COLUMN: Final = frozenset(("columns", "column_types", "rows", "kwargs"))
_IDENTITY: Final = frozenset(
    (
        *("unique_id", "resource_type", "package_name", "path", "original_file_path", "patch_path", "build_path"),
        *("compiled_path", "root_path", "database", "schema", "alias", "identifier", "relation_name", "fqn", "refs"),
        *("depends_on", "sources", "checksum", "materialized", "language", "type", "access", "attached_node", "status"),
        *("source_name", "invocation_id", "generated_at", "dbt_schema_version", "dbt_version", "args", "timing"),
        *("invocation_started_at", "run_started_at", "adapter_type", "thread_id", "node_relation"),
        *("metadata", "selectors", "parent_map", "child_map", "group_map", "input", "model", "unique_ids", "argv"),
        *("steps", "project_dir", "target_path", "log_path", "run_id", "job", "namespace", "datasets", "cause"),
    )
)
"""Keys whose values name things of the project, by which readers join: a column may have the name of a table."""

_CONNECTION: Final = "connection"

_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_lists: Final = msgspec.json.Decoder(list[msgspec.Raw])
_encode: Final = msgspec.json.encode
_decode: Final = msgspec.json.decode


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to cut, by the rule that they are cut for. `vars_texts` are the arguments of `--vars` as they were given.

    `secrets` are cut wherever they stand, `others` not where things of the project are named: a variable may hold the
    name of a schema. `columns` are names of columns, in lower case.
    """

    secrets: Mapping[str, Sequence[str]] = {}
    others: Mapping[str, Sequence[str]] = {}
    vars_texts: Sequence[str] = ()
    columns: frozenset[str] = frozenset()


_NAMES: Final = frozenset(
    ("unique_id", "unique_ids", "depends_on", "resource_type", "status", "relation", "cause", "invocation_id")
)
"""Fields that hold names of things in the project: readers join by them, and they are no secrets."""


class Literally:
    """Cuts these texts wherever they stand, in names of fields too."""

    def __init__(self, texts: Iterable[str]) -> None:
        known = {part for text in texts for part in (text, text.strip()) if part}
        self._texts = sorted(known, key=len, reverse=True)  # the longest first: a text may contain another

    def clean(self, value: object) -> Any:  # noqa: ANN401 - plain data, as it was
        """The same plain data with every one of the texts in it masked."""
        if isinstance(value, str):
            for text in self._texts:
                value = value.replace(text, MASK)
            return value
        if isinstance(value, dict):
            return {self.clean(name): inner if name in _NAMES else self.clean(inner) for name, inner in value.items()}
        return [self.clean(inner) for inner in value] if isinstance(value, list) else value


class Cutter:
    """Cuts what is to be stored of one run. `report` counts what was cut: by file, by rule."""

    def __init__(self, redaction: Redaction, values: Values, adapter: str = "") -> None:
        self.report: dict[str, Counter[str]] = {}
        self._redaction = redaction
        self._adapter = adapter
        self._vars_texts = sorted(filter(None, values.vars_texts), key=len, reverse=True)
        self._columns = {name: _hash(name) for name in values.columns} if redaction.columns == "hash" else {}
        self._secrets = {rule: Literally(texts) for rule, texts in values.secrets.items() if texts}
        self._others = {rule: Literally(texts) for rule, texts in values.others.items() if texts}
        # As they stand in JSON: what finds nothing there needn't be taken apart.
        texts = [text for by_rule in (values.secrets, values.others) for texts in by_rule.values() for text in texts]
        self._probe = Literally([*texts, *(json.dumps(text, ensure_ascii=False)[1:-1] for text in texts)])
        self._count: Counter[str] = Counter()

    def refuses(self, name: str) -> str | None:
        """Why a file can't be cut as it should be, if it can't: of a mere text nobody knows what stands in it."""
        if self._redaction.columns != "keep" and not name.endswith(".json"):
            return "it names columns, which are to be hashed, in its text"
        if self._redaction.sql != "keep" and name.endswith(".log"):
            return "it holds SQL, which is to be cut, in its text"
        return None

    def artifact(self, name: str, text: bytes | memoryview) -> Iterator[bytes]:
        """One of dbt's artifacts, in pieces. Raises `msgspec.MsgspecError` where it is no JSON object."""
        self._begin(name)
        yield b"{"
        for number, (section, raw) in enumerate(_objects.decode(text).items()):
            yield b"%s%s:" % (b"," if number else b"", _encode(section))
            yield from self._section(section, raw)
        yield b"}\n"

    def journal(self, name: str, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The lines of a journal. One that is torn is left out."""
        self._begin(name)
        for line in lines:
            try:
                event = _decode(line) if line.strip() else None
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if isinstance(event, dict):
                yield _encode(self._cut({key: self._argv(key, value) for key, value in event.items()}, "")) + b"\n"

    def log(self, name: str, lines: Iterable[str]) -> Iterator[bytes]:
        """The lines of dbt's log."""
        self._begin(name)
        for line in lines:
            cut = self._by_value(self._without_vars(line), "")
            if self._redaction.vars == "all":
                cut, found = _LOGGED_VARS.subn(MASK, cut)
                self._count[VARS] += found
            yield cut.encode("utf-8", "replace")

    def _begin(self, name: str) -> None:
        self._count = self.report[name] = Counter()

    # --- dbt's artifacts, an entry of a section at a time: of 10,000 nodes one is in memory -----------------------

    def _section(self, section: str, raw: msgspec.Raw) -> Iterator[bytes]:
        first = bytes(memoryview(raw)[:1])
        if section == MACROS and self._redaction.macros == "drop" and first == b"{":
            self._count[MACROS] += len(_objects.decode(raw))
            yield b"{}"
        elif first == b"{":
            yield b"{"
            for number, (key, entry) in enumerate(_objects.decode(raw).items()):
                yield b"%s%s:" % (b"," if number else b"", _encode(self._hidden_ids(key)))
                yield self._entry(section, key, entry)
            yield b"}"
        elif first == b"[":
            yield b"["
            for number, entry in enumerate(_lists.decode(raw)):
                yield (b"," if number else b"") + self._entry(section, "", entry)
            yield b"]"
        else:
            yield self._entry(section, "", raw)

    def _entry(self, section: str, key: str, raw: msgspec.Raw) -> bytes:
        if not self._has_rules and section != "args" and not self._may_hold_values(raw):
            return bytes(raw)
        entry = _decode(raw)
        if key == VARS and section in ("args", "metadata"):
            entry = self._masked_vars(entry, self._redaction.vars == "all")
        elif key == "invocation_command" and isinstance(entry, str):
            entry = self._without_vars(entry)
        elif key == "env" and section == "metadata" and isinstance(entry, dict):
            entry = self._metadata_env(entry)
        return _encode(self._cut(entry, section))

    def _may_hold_values(self, raw: msgspec.Raw) -> bool:
        # Encoded anew, as dbt escapes what isn't ASCII.
        text = _encode(_decode(raw)).decode()
        return bool(self._probe.clean(text) != text)

    @property
    def _has_rules(self) -> bool:
        redaction = self._redaction
        return redaction.sql != "keep" or redaction.columns != "keep" or bool(redaction.meta_keys)

    def _cut(self, entry: Any, section: str) -> Any:  # noqa: ANN401 - plain data
        entry = self._by_value(entry, section)
        if self._has_rules:
            entry = self._by_rule(entry)
        if self._redaction.columns != "keep":
            entry = self._hidden(self._without_test_name(entry), section, outermost=True)
        return entry

    # --- by value -------------------------------------------------------------------------------------------------

    def _by_value(self, entry: Any, section: str) -> Any:  # noqa: ANN401
        for rule, redactor in self._secrets.items():
            entry = self._counted(rule, entry, redactor.clean(entry))
        for rule, redactor in self._others.items():
            entry = self._counted(rule, entry, _mapped(entry, section, redactor.clean, outermost=True))
        return entry

    def _counted(self, rule: str, before: Any, after: Any) -> Any:  # noqa: ANN401
        if after != before:
            self._count[rule] += _differences(before, after)
        return after

    def _masked_vars(self, entry: Any, secret: bool) -> Any:  # noqa: ANN401
        """`--vars`, of which the names are left."""
        if isinstance(entry, dict):
            return {name: self._masked_vars(value, secret or looks_secret(name)) for name, value in entry.items()}
        if isinstance(entry, list):
            return [self._masked_vars(value, secret) for value in entry]
        self._count[VARS] += secret
        return MASK if secret else entry

    def _without_vars(self, text: str) -> str:
        """A command line without the text of its `--vars`, which stands in it as it was given."""
        for given in self._vars_texts if self._redaction.vars == "all" else ():
            if given in text:
                self._count[VARS] += 1
                text = text.replace(given, MASK)
        return text

    def _argv(self, key: str, value: Any) -> Any:  # noqa: ANN401
        if self._redaction.vars == "all" and key == "argv":
            return self._masked_argv(value)
        return [*map(self._masked_argv, value)] if self._redaction.vars == "all" and key == "steps" else value

    def _masked_argv(self, argv: list[str]) -> list[str]:
        """Dbt's arguments with that of `--vars` masked, whatever the journal's writer has cut from it before."""
        masked = [
            MASK if before == "--vars" else f"--vars={MASK}" if word.startswith("--vars=") else word
            for before, word in zip(["", *argv], argv, strict=False)
        ]
        self._count[VARS] += masked != argv
        return masked

    def _metadata_env(self, entry: dict[str, Any]) -> dict[str, Any]:
        """What dbt takes of `DBT_ENV_CUSTOM_ENV_…`, under the rest of its name."""
        found = {
            name for name in entry for prefix in (*settings.DBT_CUSTOM_PREFIXES, "")
            if any(fnmatchcase(prefix + name, pattern) for pattern in self._redaction.env_vars)
        }  # fmt: skip
        self._count[ENV_VARS] += len(found)
        return {name: MASK if name in found else value for name, value in entry.items()}

    # --- by rule --------------------------------------------------------------------------------------------------

    def _by_rule(self, entry: Any) -> Any:  # noqa: ANN401
        if isinstance(entry, list):
            return [self._by_rule(each) for each in entry]
        if not isinstance(entry, dict):
            return entry
        return {key: self._of_key(key, value) for key, value in entry.items()}

    def _of_key(self, key: str, value: Any) -> Any:  # noqa: ANN401
        if key == "meta" and isinstance(value, dict):
            return self._meta(value)
        if isinstance(value, str) and value and self._sql_rule != "keep":
            if key in _SQL_KEYS:
                return self._sql(value)
            if key == "message":
                return self._message(value)
        return self._by_rule(value)

    def _meta(self, meta: Any) -> Any:  # noqa: ANN401
        if isinstance(meta, list):
            return [self._meta(each) for each in meta]
        if not isinstance(meta, dict):
            return meta
        kept = {name: self._meta(value) for name, value in meta.items() if not self._drops(name)}
        self._count[META_KEYS] += len(meta) - len(kept)
        return kept

    def _drops(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._redaction.meta_keys)

    @property
    def _sql_rule(self) -> str:
        # SQL names columns, those too that nobody has described.
        return "drop" if self._redaction.columns != "keep" else self._redaction.sql

    def _sql(self, sql: str) -> str:
        if self._sql_rule == "drop":
            self._count[SQL] += 1
            return ""
        from spanline.lineage.literals import without_literals  # noqa: PLC0415 - only who masks pays for sqlglot

        masked = without_literals(sql, self._adapter) or ""
        self._count[SQL] += masked != sql
        return masked

    def _message(self, message: str) -> str:
        """The warehouse's error, which may quote the statement or the data."""
        first = message.partition("\n")[0] if self._sql_rule == "drop" else message
        masked = _QUOTED.sub("?", first)
        self._count[SQL] += masked != message
        return masked

    # --- names of columns -----------------------------------------------------------------------------------------

    def _hidden(self, value: Any, key: str, *, outermost: bool = False) -> Any:  # noqa: ANN401
        if isinstance(value, str):
            return self._hidden_ids(value) if key in _IDENTITY else self._hidden_words(value)
        if isinstance(value, list):
            return [self._hidden(each, key) for each in value]
        if not isinstance(value, dict):
            return value
        hide_key: Callable[[str], str] = self._hidden_words if key in _KEYED_BY_COLUMN else self._hidden_ids
        return {
            hide_key(name): inner if outermost and name == "name" else self._hidden(inner, _stays(key, name))
            for name, inner in value.items()
        }

    def _hidden_words(self, text: str) -> str:
        hidden = _WORD.sub(lambda found: self._columns.get(found[0].lower(), found[0]), self._hidden_ids(text))
        self._count[COLUMNS] += hidden != text
        return hidden

    def _hidden_ids(self, text: str) -> str:
        if self._redaction.columns == "keep":
            return text
        return _TEST_ID.sub(lambda found: f"{found[1]}{_hash(found[2])}{found[3]}", text)

    def _without_test_name(self, entry: Any) -> Any:  # noqa: ANN401
        """A generic test under another name: dbt makes its own of what it tests."""
        if isinstance(entry, list):  # of disabled ones
            return [self._without_test_name(each) for each in entry]
        found = _TEST_ID.fullmatch(str(entry.get("unique_id"))) if isinstance(entry, dict) else None
        if found is None:
            return entry
        old, new = found[2], _hash(found[2])
        self._count[COLUMNS] += 1
        # dbt cuts a long name for the alias.
        names = {str(entry.get("alias") or old), old}
        changed = dict(entry)
        for key in _TEST_NAMES:
            if isinstance(entry.get(key), str):
                changed[key] = _replaced(entry[key], names, new)
        if isinstance(entry.get("fqn"), list):
            changed["fqn"] = [_replaced(part, names, new) for part in entry["fqn"]]
        return changed


def _stays(above: str, key: str) -> str:
    """The key under which a value is looked at: what is below one that names things does, too; a connection doesn't."""
    return above if above in _IDENTITY or above == _CONNECTION else key


def _mapped(value: Any, key: str, change: Callable[[Any], Any], *, outermost: bool = False) -> Any:  # noqa: ANN401
    """Plain data with its texts changed, except those that name things of the project."""
    if isinstance(value, str):
        return value if key in _IDENTITY else change(value)
    if isinstance(value, list):
        return [_mapped(each, key, change) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: inner if outermost and name == "name" else _mapped(inner, _stays(key, name), change)
        for name, inner in value.items()
    }


def _replaced(text: str, names: Iterable[str], new: str) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, new)
    return text


def _hash(name: str) -> str:
    return f"c_{hashlib.sha256(name.lower().encode()).hexdigest()[:12]}"


def _differences(before: Any, after: Any) -> int:  # noqa: ANN401
    """How many of the texts in plain data differ."""
    if isinstance(before, dict) and isinstance(after, dict) and len(before) == len(after):
        return sum(map(_differences, before.values(), after.values())) + (before.keys() != after.keys())
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return sum(map(_differences, before, after))
    return int(before != after)


def total(report: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """What a report amounts to, by rule."""
    found: Counter[str] = Counter()
    for counts in report.values():
        found.update(counts)
    return {rule: number for rule, number in found.items() if number}
