"""Where a project's code is, as git says it: real repositories, and their remotes as people have them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spanline.dbt.repository import find_repository, without_credentials
from spanline.events import Event, RepositoryFound
from tests.support.journals import journal
from tests.support.lineage_events import (
    built,
    end_of,
    ended,
    ends,
    in_order,
    invoked,
    opened,
    session,
    starts,
    translated,
)
from tests.support.project import Project

TOKEN = "ghp_hush0123456789"


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.com")


def git(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, on the branch `main`."""
    place = tmp_path / "repository"
    (place / "transform" / "shop").mkdir(parents=True)
    (place / "transform" / "shop" / "dbt_project.yml").write_text("name: shop\n")
    git(place, "init", "--quiet", "--initial-branch", "main")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message", "Begin")
    return place


def test_a_project_at_the_root_of_a_repository(repository: Path) -> None:
    assert find_repository(repository) == RepositoryFound(
        commit=git(repository, "rev-parse", "HEAD"), url=None, branch="main", path=""
    )


def test_a_project_below_the_root(repository: Path) -> None:
    found = find_repository(repository / "transform" / "shop")
    assert found is not None
    assert found.path == "transform/shop"
    assert found.commit == git(repository, "rev-parse", "HEAD")


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "--detach")
    found = find_repository(repository)
    assert found is not None
    assert found.branch is None
    assert found.commit == git(repository, "rev-parse", "HEAD")


def test_a_worktree_is_of_its_own_branch(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "-b", "feature/x", str(tmp_path / "other"))
    found = find_repository(tmp_path / "other" / "transform")
    assert found is not None
    assert (found.branch, found.path) == ("feature/x", "transform")


def test_without_a_repository_a_commit_a_directory_or_git_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_repository(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert find_repository(tmp_path) is None, "it has no commit yet"
    assert find_repository(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_repository(tmp_path) is None


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        (f"https://x-access-token:{TOKEN}@github.com/acme/shop.git", "https://github.com/acme/shop.git"),
        (f"https://{TOKEN}@github.com/acme/shop.git", "https://github.com/acme/shop.git"),
        (f"https://ada:p@{TOKEN}@host:8443/shop", "https://host:8443/shop"),
        (f"https://host/shop.git?private_token={TOKEN}", "https://host/shop.git"),
        (f"ssh://git:{TOKEN}@host:2222/acme/shop.git", "ssh://git@host:2222/acme/shop.git"),
        ("ssh://git@github.com/acme/shop.git", "ssh://git@github.com/acme/shop.git"),
        ("git@github.com:acme/shop.git", "git@github.com:acme/shop.git"),
        ("https://github.com/acme/shop", "https://github.com/acme/shop"),
        ("/srv/git/shop.git", "/srv/git/shop.git"),
        ("https://[not-an-address/shop", None),
    ],
)
def test_a_remote_is_told_without_its_credentials(repository: Path, remote: str, told: str | None) -> None:
    git(repository, "config", "remote.origin.url", remote)
    found = find_repository(repository)
    assert found is not None
    assert found.url == told == without_credentials(remote)


# --- what lineage makes of it ---------------------------------------------------------------------------------------

COMMIT = "693e35482bc2e526ced2b5f9f76ef83dec6ec691"


def found_repository(**fields: str | None) -> Event:
    return RepositoryFound(**{"commit": COMMIT, "branch": "main", "session": 1, "step": 1, "attempt": 1, **fields})  # type: ignore[arg-type]


def located(*happened: Event, **fields: str | None) -> list[dict]:
    """A journal in which the repository is found before dbt is."""
    return translated(in_order(opened(), found_repository(**fields), invoked(), *happened, ended()))


@pytest.mark.parametrize(
    ("remote", "web"),
    [
        ("https://github.com/acme/shop.git", "https://github.com/acme/shop"),
        ("https://github.com/acme/shop", "https://github.com/acme/shop"),
        ("https://github.com/acme/shop.git/", "https://github.com/acme/shop"),
        ("http://host:8080/acme/shop.git", "http://host:8080/acme/shop"),
        ("git@github.com:acme/shop.git", "https://github.com/acme/shop"),
        ("host:acme/shop.git", "https://host/acme/shop"),
        ("ssh://git@github.com/acme/shop.git", "https://github.com/acme/shop"),
        ("ssh://git@host:2222/acme/shop.git", "https://host/acme/shop"),
        ("git://host/acme/shop.git", "https://host/acme/shop"),
        ("/srv/git/shop.git", None),
        ("../shop.git", None),
        ("file:///srv/git/shop.git", None),
        (None, None),
    ],
)
def test_the_code_of_a_job_is_where_a_browser_finds_it(remote: str | None, web: str | None) -> None:
    told = located(*built("model.shop.a", path="models/mart/a.sql"), url=remote)
    location = end_of(told, "model.shop.a")["job"]["facets"]["sourceCodeLocation"]
    path = "models/mart/a.sql"
    assert location["url"] == (f"{web}/blob/{COMMIT}/{path}" if web else f"git:{COMMIT}/{path}")
    assert (location["type"], location["version"], location["branch"]) == ("git", COMMIT, "main")
    assert location["path"] == path
    assert location.get("repoUrl") == remote


def test_paths_are_within_the_repository_and_quoted_in_addresses() -> None:
    told = located(
        *built("model.shop.a", path="models/größe #1.sql"), url="https://host/acme/shop", path="transform/my shop"
    )
    location = end_of(told, "model.shop.a")["job"]["facets"]["sourceCodeLocation"]
    assert location["path"] == "transform/my shop/models/größe #1.sql"
    assert location["url"].endswith("/transform/my%20shop/models/gr%C3%B6%C3%9Fe%20%231.sql")
    of_session = starts(told)["dbt-run-shop"]["job"]["facets"]["sourceCodeLocation"]
    assert of_session["path"] == "transform/my shop/dbt_project.yml"
    assert ends(told)["dbt-run-shop"]["job"]["facets"]["sourceCodeLocation"] == of_session


def test_code_of_another_package_is_not_in_this_repository() -> None:
    """Its path is within the package, which dbt keeps where git doesn't look."""
    told = located(
        *built("model.other.a", path="models/a.sql"), *built("model.shop.b", path="models/b.sql"), url="https://host/x"
    )
    assert "sourceCodeLocation" not in end_of(told, "model.other.a")["job"]["facets"]
    assert "sourceCodeLocation" in end_of(told, "model.shop.b")["job"]["facets"]


def test_without_a_repository_nothing_is_said_of_one() -> None:
    told = translated(session(*built("model.shop.a", path="models/a.sql")))
    assert not [event for event in told if "sourceCodeLocation" in event["job"]["facets"]]


def test_a_later_session_tells_only_its_own_repository() -> None:
    first = in_order(opened(), found_repository(url="https://host/x"), invoked(), ended())
    second = in_order(opened(session=2, time=first[-1].time), invoked(session=2), ended(session=2))
    told = translated([*first, *second])
    assert ["sourceCodeLocation" in event["job"]["facets"] for event in told] == [True, True, False, False]


# --- in a run -------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_repository_and_no_remote_harms_it(project: Project) -> None:
    git(project.path, "init", "--quiet", "--initial-branch", "main")
    git(project.path, "add", "dbt_project.yml")
    git(project.path, "commit", "--quiet", "--message", "Begin")
    git(project.path, "config", "remote.origin.url", f"https://ci:{TOKEN}@[not-an-address/shop")
    run = project.run("run-operation", "say", "--args", "{text: hello}")
    assert run.result().success
    (found,) = [event for event in journal(run) if isinstance(event, RepositoryFound)]
    assert (found.commit, found.url) == (git(project.path, "rev-parse", "HEAD"), None)
    assert TOKEN.encode() not in run.directory.journal.read_bytes()
