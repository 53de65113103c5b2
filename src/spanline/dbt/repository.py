"""The git repository of a project, according to `git`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from spanline.events import RepositoryFound

_SECONDS: Final = 5.0


def find_repository(project: Path) -> RepositoryFound | None:
    """The repository that contains a project; None without one, without a commit, or without git."""
    said = _git(project, "rev-parse", "--show-prefix", "HEAD", "--abbrev-ref", "HEAD")
    if said is None:
        return None
    prefix, commit, branch = said.split("\n")[:3]
    remote = _git(project, "config", "--get", "remote.origin.url")
    return RepositoryFound(
        commit=commit,
        url=without_credentials(remote.strip()) if remote else None,
        branch=None if branch == "HEAD" else branch,
        path=prefix.rstrip("/"),
    )


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def without_credentials(url: str) -> str | None:
    """A remote's URL without a password or token; SSH's user name stays. None if it is not a URL."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    user, _, host = parts.netloc.rpartition("@")
    kept = user.partition(":")[0] + "@" if user and parts.scheme == "ssh" else ""
    return parts._replace(netloc=kept + host, query="", fragment="").geturl()
