"""What dbt is given of a profile that is made of a connection: a file while it reads it, and variables of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spanline.dbt.arguments import option
from spanline.dbt.project import profile_name
from spanline.errors import UsageError
from spanline.profiles import file
from spanline.runner.shared import settings

if TYPE_CHECKING:
    from spanline.profiles import Profile


@contextmanager
def given(
    profile: Profile | None, project_dir: Path, argv: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], file.ProfileFile | None]]:
    """The environment in which dbt finds this profile, and its file, which can be removed once dbt has read it."""
    if profile is None:
        yield environment, None
        return
    target = option(argv, "--target") or option(argv, "-t") or environment.get(settings.DBT_TARGET)
    with file.write(profile.document(name_for(project_dir, argv), target)) as written:
        # The file has this one profile, with one target.
        rest = {
            name: value
            for name, value in environment.items()
            if name not in (settings.DBT_PROFILE, settings.DBT_TARGET)
        }
        yield {**rest, **profile.environment, settings.DBT_PROFILES_DIR: str(written.directory)}, written


def name_for(project_dir: Path, argv: Sequence[str]) -> str:
    """The name under which dbt will look for the profile. Raises `UsageError` where that can't be known, or mustn't."""
    if option(argv, "--profiles-dir") is not None:
        raise UsageError("a run whose profile is made from a connection cannot use dbt's --profiles-dir: leave one out")
    name = profile_name(project_dir, argv)
    if name is None:
        raise UsageError(f"{project_dir}/dbt_project.yml has no profile, or sets it with Jinja: pass dbt's --profile")
    return name
