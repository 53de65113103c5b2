"""Real runs of dbt with a profile that is made of a connection: what is left of it, and what a new password changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import spanline
from spanline import events, retry
from spanline.api.run import Run
from spanline.errors import DbtConnectionException, UsageError
from spanline.home.home import RunDirectory, create_run
from spanline.home.spec import RunSpec
from spanline.journal.ids import new_run_id
from spanline.profiles import Connection, Profile, file, resolve
from tests.support.journals import journal
from tests.support.project import DEADLINE, SILENT, Project
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

CANARIES = {
    "settings": "hush-of-settings",
    "secrets": "hush-of-secrets",
    "attached": "hush-of-attached",
    "plugin": "hush-of-plugin",
    "vars": "hush-of-vars",
    "environment": "hush-of-environment",
}
DUCKDB = {
    "conn_type": "duckdb",
    "host": "shop.duckdb",
    "extra": {
        "threads": 2,
        "settings": {"errors_as_json": "false"},
        "module_paths": ["."],
        "plugins": [{"module": "my_plugin", "config": {"api_token": CANARIES["plugin"]}}],
    },
}
PLUGIN = "from dbt.adapters.duckdb.plugins import BasePlugin\n\nclass Plugin(BasePlugin):\n    pass\n"
VARIABLE = "DBT_ENV_SECRET_SPANLINE_PLUGINS_1_CONFIG_API_TOKEN"


@pytest.fixture
def memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process, and no other, writes profiles."""
    place = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(file, "IN_MEMORY", place)
    return place


@pytest.fixture
def connected(project: Project) -> Project:
    """The project, with no profile of its own."""
    (project.path / "profiles.yml").unlink()
    project.write("my_plugin.py", PLUGIN)
    return project


def start(project: Project, *steps: list[str], profile: Profile | None = None, **options: object) -> Run:
    found = profile or resolve(Connection.from_mapping(DUCKDB, "warehouse"), target="prod")
    return spanline.start(steps, project_dir=project.path, profile=found, stdio=SILENT, **options)


def of_type(run: Run, kind: type[events.Event]) -> list[events.Event]:
    return [event for event in journal(run) if isinstance(event, kind)]


def runner_of(run: Run) -> psutil.Process:
    (attempt,) = of_type(run, events.AttemptStarted)
    assert isinstance(attempt, events.AttemptStarted)
    return psutil.Process(attempt.pid)


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
def test_only_dbt_is_given_the_secrets_and_the_file_is_gone_once_dbt_has_read_it(
    connected: Project, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detached: bool
) -> None:
    gate = tmp_path / "gate"
    for name, value in {"TYPE": "file", "LOG_FILE_PATH": str(tmp_path / "lineage"), "APPEND": "true"}.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)  # so that there is a column resolver
    if not detached:
        (memory / "spanline-profiles-left").mkdir()  # by somebody who was killed
    passed = {"GATE": str(gate), "OPENLINEAGE__TRANSPORT__AUTH__APIKEY": CANARIES["environment"]}
    run = start(connected, ["run", "--select", "gate"], detached=detached, environment=passed)
    try:
        eventually(lambda: run.state.open_nodes, "the gate")
        runner = runner_of(run)
        given = runner.environ()
        assert given[VARIABLE] == CANARIES["plugin"]
        profiles = Path(given["DBT_PROFILES_DIR"])
        eventually(lambda: not profiles.exists(), "the removal of the profile")
        if not detached:
            assert profiles.parent == memory
            assert list(memory.iterdir()) == []
        supervisor = psutil.Process(runner.ppid())
        shown = [*supervisor.environ().values(), *supervisor.cmdline()]
        assert [canary for canary in CANARIES.values() if any(canary in text for text in shown)] == []
        others = [process for process in supervisor.children() if process.pid != runner.pid]
        resolvers = [process for process in others if "spanline.lineage" in " ".join(process.cmdline())]
        assert len(resolvers) == 1
        assert VARIABLE not in resolvers[0].environ()
        assert VARIABLE not in os.environ
        kept = (run.directory.path / "spec.json").read_text()
        assert [canary for canary in CANARIES.values() if canary in kept] == []
    finally:
        gate.touch()
        result = run.wait(DEADLINE)
    assert result.outcome == "success", result.error
    assert result.conn_id == "warehouse"
    config = run.state.config
    assert config is not None
    assert (config.profile, config.target, config.threads) == ("shop", "prod", 2)
    assert [session.conn_id for session in of_type(run, events.SessionStarted)] == ["warehouse"]


@pytest.mark.slow
def test_commands_that_read_the_profile_more_than_once_find_it(connected: Project, memory: Path) -> None:
    run = start(connected, ["debug"], ["run", "--select", "customers", "--target", "prod"], ["retry"])
    result = run.wait(3 * DEADLINE)
    assert result.outcome == "success", result.error
    assert [attempt.command for attempt in run.state.attempts] == ["debug", "run", "retry"]
    assert list(memory.iterdir()) == []


def test_a_run_of_a_connection_is_resumed_with_that_again_or_with_a_profiles_dir(
    connected: Project, memory: Path
) -> None:
    home = connected.home
    broken = start(connected, ["run", "--select", "customers fragile", "--vars", "break: true"]).wait(DEADLINE)
    assert [node.unique_id for node in broken.failed_nodes] == ["model.shop.fragile"]
    connected.write("models/fragile.sql", "select 1 as id")

    with pytest.raises(UsageError, match="made of the connection 'warehouse', of which no secret is kept: pass"):
        retry(broken.run_id, home_dir=home)
    said = connected.spanline("retry", broken.run_id)
    assert said.returncode == 2
    assert b"--profiles-dir" in said.stderr
    with pytest.raises(UsageError, match=r"no profiles\.yml in"):
        retry(broken.run_id, home_dir=home, profiles_dir=connected.path)

    output = {"type": "duckdb", "path": "shop.duckdb"}
    connected.write("own/profiles.yml", json.dumps({"shop": {"target": "dev", "outputs": {"dev": output}}}))
    done = connected.spanline("retry", broken.run_id, "--profiles-dir", "own")
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(RunDirectory(home / "runs" / broken.run_id))
    assert set(run.state.nodes) == {"model.shop.fragile"}
    assert [session.conn_id for session in of_type(run, events.SessionStarted)] == ["warehouse", None]
    assert run.state.config is not None
    assert run.state.config.target == "dev"


def test_a_run_with_profiles_of_its_own_takes_no_others(project: Project) -> None:
    spec = RunSpec(
        run_id=new_run_id(),
        steps=[["run"]],
        cwd=str(project.path),
        project_dir=str(project.path),
        python=sys.executable,
    )
    _, held = create_run(project.home, spec.run_id, spec.encode())
    held.release()
    profile = resolve(Connection.from_mapping(DUCKDB, "warehouse"))
    for more in ({"profile": profile}, {"profiles_dir": project.path}):
        with pytest.raises(UsageError, match="this run has its own profile: leave out"):
            retry(spec.run_id, home_dir=project.home, **more)


def test_two_places_for_a_profile_and_names_that_only_dbt_knows_are_errors_of_use(connected: Project) -> None:
    with pytest.raises(UsageError, match="cannot use dbt's --profiles-dir"):
        start(connected, ["run"], ["test", "--profiles-dir", "."])
    project_file = connected.path / "dbt_project.yml"
    project_file.write_text(project_file.read_text().replace("profile: shop", "profile: \"{{ env_var('X') }}\""))
    with pytest.raises(UsageError, match="pass dbt's --profile"):
        start(connected, ["run"])
    assert not connected.home.exists()


# --- nothing of a failing run tells a secret


@dataclass
class Left:
    """What a run has left: its project, what it has said and sent."""

    project: Project
    texts: dict[str, bytes]


SCRIPT = """
import json, sys, spanline
from spanline import profiles

given = json.load(sys.stdin)
good, bad = (
    profiles.resolve(profiles.Connection.from_mapping(connection, "warehouse")) for connection in given["connections"]
)
result = spanline.run(given["steps"], profile=good, environment=given["environment"])
print(result, good, file=sys.stderr)
resumed = spanline.retry(result.run_id, profile=bad)
print(resumed.wait(), bad, file=sys.stderr)
resumed.result().raise_for_failure()
"""


@pytest.fixture(scope="module")
def left(
    copy_project: Callable[[], Project],
    start_receiver: Callable[[], Receiver],
    tmp_path_factory: pytest.TempPathFactory,
) -> Left:
    """Of a run that fails in a model, and then for its connection, with a secret wherever there may be one."""
    project, receiver = copy_project(), start_receiver()
    (project.path / "profiles.yml").unlink()
    project.write("my_plugin.py", PLUGIN)
    project.write("run.py", SCRIPT)
    project.write(
        "models/leaky.sql",
        "{% do log(var('db_password') ~ env_var('BILLING_API_TOKEN') ~ target, info=true) %}\n"
        "select '{{ var('db_password') }}', no_such_column",
    )
    refused = {
        "config_options": {"s3_secret_access_key": CANARIES["settings"]},
        "secrets": [{"type": "s3", "name": "lake", "key_id": "AKIA1", "secret": CANARIES["secrets"]}],
        "attach": [{"path": f"/nowhere/crm.duckdb?password={CANARIES['attached']}", "alias": "crm"}],
    }
    environment = {
        "BILLING_API_TOKEN": CANARIES["environment"],
        **receiver.lineage_environment,
        **receiver.otel_environment,
    }
    given = {
        "connections": [DUCKDB, {**DUCKDB, "extra": {**DUCKDB["extra"], **refused}}],
        "steps": [["run", "--select", "leaky", "--vars", json.dumps({"db_password": CANARIES["vars"]})]],
        "environment": environment,
    }
    kept = tmp_path_factory.mktemp("kept")
    done = subprocess.run(  # a process of its own, whose standard streams dbt has
        [sys.executable, "run.py"],
        cwd=project.path,
        env={**os.environ, **environment, "TMPDIR": str(kept)},
        input=json.dumps(given).encode(),
        capture_output=True,
        check=False,
        timeout=2 * DEADLINE,
    )
    assert b"no_such_column" in done.stderr, done.stderr.decode()
    assert b"spanline.errors.DbtRuntimeException: " in done.stderr, done.stderr.decode()
    texts = {"stdout": done.stdout, "stderr": done.stderr}
    texts |= {f"sent {place}": received.body for place, received in enumerate(receiver.requests)}
    for place in (project.path, kept, *Path("/dev/shm").glob("spanline-profiles-*")):
        texts |= {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return Left(project, texts)


@pytest.mark.parametrize("which", [name for name in CANARIES if name not in ("vars", "environment")])
def test_a_secret_of_the_connection_is_nowhere(left: Left, which: str) -> None:
    assert [name for name, text in left.texts.items() if CANARIES[which].encode() in text] == []


@pytest.mark.parametrize("which", ["vars", "environment"])
def test_a_secret_of_the_run_is_nowhere_but_where_dbt_puts_it(left: Left, which: str) -> None:
    """dbt's own output, log and target, and `spec.json`, which is 0600."""
    ours = {
        name: text
        for name, text in left.texts.items()
        if name not in ("stdout", "stderr") and Path(name).name not in ("spec.json", "dbt.log")
        and left.project.path / "target" not in Path(name).parents and "artifacts" not in name
    }  # fmt: skip
    assert [name for name, text in ours.items() if CANARIES[which].encode() in text] == []
    assert any("journal.jsonl" in name for name in ours)
    assert any(name.startswith("sent") for name in ours)


# --- PostgreSQL, whose passwords change


MODELS = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop, flags: {send_anonymous_usage_stats: false}}",
    "models/first.sql": "select 1 as id",
    "models/second.sql": "select id from {{ ref('first') }} where {{ var('condition') }}",
}


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[tuple[Project, Callable[[str], None], Callable[[], Connection]]]:
    """A project, a way to set a user's password, and the connection in the environment as it is then."""
    pgserver = pytest.importorskip("pgserver")
    psycopg2 = pytest.importorskip("psycopg2")
    # Not in pytest's directory: as root the server runs as another user, who must be able to get there.
    place = Path(tempfile.mkdtemp(prefix="spanline-pg-"))
    server = pgserver.get_server(place / "data", cleanup_mode="stop")
    rules = place / "data" / "pg_hba.conf"
    rules.write_text("local all ada scram-sha-256\n" + rules.read_text())
    admin = psycopg2.connect(server.get_uri())
    admin.autocommit = True
    variables: dict[str, str] = {}

    def execute(statement: str) -> None:
        with admin.cursor() as cursor:
            cursor.execute(statement)

    def rotate(password: str) -> None:
        execute(f"alter role ada password '{password}'")
        variables["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(
            {"conn_type": "postgres", "host": admin.info.host, "port": admin.info.port, "login": "ada",
             "password": password, "schema": admin.info.dbname, "extra": {"schema": "marts"}}
        )  # fmt: skip

    execute("create role ada login superuser")
    execute("select pg_reload_conf()")
    project = Project(tmp_path / "shop")
    for name, text in MODELS.items():
        project.write(name, text)
    yield project, rotate, lambda: Connection.from_environment("warehouse", variables)
    admin.close()
    server.cleanup()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.postgres
def test_a_resume_uses_the_password_of_its_day(
    warehouse: tuple[Project, Callable[[str], None], Callable[[], Connection]],
) -> None:
    project, rotate, connection = warehouse
    rotate("hush-of-monday {{ 7*7 }}")
    monday = resolve(connection())
    first = start(project, ["run", "--vars", "condition: no_such_column"], profile=monday).wait(DEADLINE)
    assert [node.unique_id for node in first.failed_nodes] == ["model.shop.second"], first.error
    project.write("models/second.sql", "select id from {{ ref('first') }}")

    rotate("hush-of-tuesday")
    refused = retry(first.run_id, home_dir=project.home, profile=monday, stdio=SILENT)
    assert refused is not None
    with pytest.raises(DbtConnectionException, match="password authentication failed") as raised:
        refused.wait(DEADLINE).raise_for_failure()
    assert raised.value.conn_id == "warehouse"

    tuesday = resolve(connection())
    resumed = retry(first.run_id, home_dir=project.home, profile=tuesday, stdio=SILENT)
    assert resumed is not None
    result = resumed.wait(DEADLINE)
    assert (result.outcome, set(resumed.state.nodes)) == ("success", {"model.shop.second"}), result.error
    assert [session.conn_id for session in of_type(resumed, events.SessionStarted)] == ["warehouse"] * 3
    for path in project.path.rglob("*"):
        if path.is_file():
            assert b"hush" not in path.read_bytes(), path
