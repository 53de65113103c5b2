"""One real run of dbt full of canaries, whose directory each test gets a copy of, and the stores that it goes to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanline.api.run import Run
from spanline.home.home import RunDirectory
from tests.support.clouds import CLOUDS, Cloud
from tests.support.project import Project

SECRETS = {"API_TOKEN": "canary-t0ken-ünd 'quoted'", "DBT_ENV_SECRET_KEY": "canary-env-secret-1"}
"""What dbt has in its environment, and nobody may read in a store."""
VARIABLES = {"CUSTOMER_NAME": "canary-customer-7", "DBT_ENV_CUSTOM_ENV_TICKET": "canary-ticket-8"}
VARS = "{note: canary-note-2, password: canary-pass-3, nested: {deep: [canary-deep-4]}, n: 5}"
PROFILE_SECRET = "canary-profile-5"
CANARIES = (
    "canary-t0ken", "canary-env-secret-1", "canary-note-2", "canary-pass-3", "canary-deep-4", PROFILE_SECRET,
)  # fmt: skip

_MODEL = """
{{ config(meta={'note': var('note'), 'token': env_var('API_TOKEN'), 'pii_owner': 'Ada',
                'kept': {'pii_mail': 'a@b.c'}}) }}
select id, 'literal-of-sql' as origin, 4242 as answer, '{{ var("note") }}' as note,
    '{{ env_var("API_TOKEN") | replace("\\'", "\\'\\'") }}' as token, '{{ env_var("CUSTOMER_NAME") }}' as customer,
    '{{ var("password") }}' as other, '{{ var("nested")["deep"][0] }}' as deep, 'canary-profile-5' as leaked
from {{ ref('customers') }}
"""
_PROPERTIES = """
models:
  - name: telling
    description: "Of {{ var('note') }} and {{ env_var('API_TOKEN') }}"
    columns:
      - {name: id, description: the id of it, data_tests: [not_null, unique]}
      - {name: secret_column, description: what nobody may know}
"""
_PROFILES = """
other:
  target: dev
  outputs: {dev: {type: postgres, host: h, user: u, password: canary-profile-5, port: 5432, dbname: d, schema: s}}
"""


@pytest.fixture(scope="session")
def _canary_run(copy_project: Callable[[], Project]) -> Run:
    project = copy_project()
    project.write("models/telling.sql", _MODEL)
    project.write("models/telling.yml", _PROPERTIES)
    with (project.path / "profiles.yml").open("a") as profiles:
        profiles.write(_PROFILES)
    environment = {**SECRETS, **VARIABLES}
    run = project.run("build", "--select", "+telling", "--vars", VARS, environment=environment)
    assert run.result().success, run.result().error
    generated = project.run("docs", "generate", "--select", "telling", "--vars", VARS, environment=environment)
    (catalog,) = generated.directory.path.glob("artifacts/*/catalog.json")
    shutil.copy(catalog, next(run.directory.path.glob("artifacts/*")))
    return run


@pytest.fixture
def canary_run(_canary_run: Run, tmp_path: Path) -> Run:
    """A run that nobody has stored yet, in a home of this test's own."""
    place = tmp_path / "home" / "runs" / _canary_run.id
    shutil.copytree(_canary_run.directory.path, place)
    return Run(RunDirectory(place))


@pytest.fixture(scope="session")
def moto() -> Iterator[Cloud]:
    with CLOUDS["s3"]() as cloud:
        yield cloud


@pytest.fixture(
    params=["file", "s3", pytest.param("gcs", marks=pytest.mark.gcs), pytest.param("azure", marks=pytest.mark.azure)],
    scope="session",
)
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A place to store in, of each kind."""
    if request.param == "file":
        yield Cloud(f"file://{tmp_path_factory.mktemp('store')}", {}, "")
    elif request.param == "s3":
        yield request.getfixturevalue("moto")
    else:
        with CLOUDS[request.param]() as found:
            yield found


@pytest.fixture
def reachable(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The same, with what its client needs in the environment."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return cloud
