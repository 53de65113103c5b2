"""What tells that something is a secret: the name that it stands under; and whether its value can be told apart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache, lru_cache

from .settings import DBT_SECRET_PREFIXES, SECRET_NAMES

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^\W\d_]+")
"""A word of a name, in whatever way they are joined: `api_key`, `API-KEY`, `apiKey`, `api.key`."""
_TELLING = frozenset(
    (
        *("auth", "authorization", "bearer", "cred", "credential", "credentials", "creds", "dsn", "jwt", "pass"),
        *("passcode", "passphrase", "passphrases", "passwd", "password", "passwords", "pat", "pwd", "sas", "secret"),
        *("secrets", "token"),
    )
)
_TELLING_ENDS = (
    *("accesskey", "accountkey", "apikey", "connectionstring", "connstr", "credential", "credentials", "passphrase"),
    *("passwd", "password", "privatekey", "pwd", "secret", "secretkey", "token"),
)
"""Ends of words that are written in one: `pgpassword`, `clientsecret`."""
_TELLING_PAIRS = frozenset(
    (
        *((kind, "key") for kind in ("access", "account", "api", "app", "auth", "encryption", "fernet", "hmac")),
        *((kind, "key") for kind in ("master", "private", "secret", "shared", "signing", "ssh")),
        *((kind, "keys") for kind in ("access", "api", "private", "secret", "ssh")),
        *((kind, "tokens") for kind in ("access", "api", "auth", "refresh")),
        *(("conn", "str"), ("conn", "string"), ("connection", "str"), ("connection", "string")),
        *(("access", "signature"), ("keyfile", "json")),
    )
)
_ABOUT = frozenset(
    (
        *("age", "algorithm", "arn", "at", "backend", "cache", "col", "cols", "column", "columns", "count", "created"),
        *(
            "date",
            "days",
            "dir",
            "directory",
            "disabled",
            "enabled",
            "endpoint",
            "expiration",
            "expired",
            "expires",
        ),
        *("fail", "field", "fields", "file", "filename", "flow", "format", "host", "hours", "id", "ids", "issuer"),
        *("length", "lifetime", "limit", "location", "manager", "max", "method", "min", "minutes", "mode", "model"),
        *("name", "names", "number", "optional", "path", "pattern", "percent", "percentage", "policy", "port"),
        *("prefix", "provider", "rate", "ratio", "realm", "regex", "region", "required", "rotation", "schema"),
        *("scheme", "scope", "scopes", "score", "seconds", "server", "size", "sock", "socket", "source", "state"),
        *("status", "store", "strategy", "suffix", "table", "threshold", "through", "timeout", "ttl", "type", "types"),
        *("updated", "uri", "url", "user", "username", "version"),
    )
)
"""What a name ends with that is about a secret, and isn't one: `token_type`, `password_column`, `secret_id`."""
_NOT_SECRET = frozenset(("PWD", "OLDPWD"))

_SHORTEST_APART = 6
_LONGEST_PLAIN = 15
_PLAIN_WORD = re.compile(r"[^\W\d]+")
_PLAIN_NUMBER = re.compile(r"[\W\d_]+")


def looks_secret(name: str) -> bool:
    """Whether what stands under this name, of a variable, a setting or a key, is taken for a secret."""
    return name.startswith(DBT_SECRET_PREFIXES) or _looks_secret(name, own_names())


@lru_cache(maxsize=4096)
def _looks_secret(name: str, own: tuple[str, ...]) -> bool:
    if any(fnmatchcase(name.lower(), pattern) for pattern in own):
        return True
    words = _words(name)
    return name not in _NOT_SECRET and not _is_about(words) and any(_tell(words))


@cache
def own_names() -> tuple[str, ...]:
    """The patterns in `SPANLINE_SECRET_NAMES`, in lower case, which commas or blanks part; `*` stands for anything.

    Read once, as it is asked for with every text.
    """
    return tuple(os.environ.get(SECRET_NAMES, "").lower().replace(",", " ").split())


@lru_cache(maxsize=4096)
def is_about(name: str) -> bool:
    """Whether this is the name of something about a secret that is none itself: its type, the user's name."""
    return _is_about(_words(name))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_about(words: list[str]) -> bool:
    return bool(words) and words[-1] in _ABOUT


def _tell(words: list[str]) -> Iterator[bool]:
    for word in words:
        yield word in _TELLING or word.endswith(_TELLING_ENDS)
    for pair in zip(words, words[1:]):
        yield pair in _TELLING_PAIRS


def stands_apart(value: str) -> bool:
    """Whether a secret of this value can be told from other text, so that it is masked wherever it stands.

    One of fewer than 6 characters can't be; nor one of fewer than 16 that is a single word (letters of one case, and
    underscores) or a number (digits and punctuation: a date, a version).
    """
    if len(value) < _SHORTEST_APART:
        return False
    if len(value) > _LONGEST_PLAIN:
        return True
    is_word = _PLAIN_WORD.fullmatch(value) and value in (value.lower(), value.upper(), value.capitalize())
    return not (is_word or _PLAIN_NUMBER.fullmatch(value))
