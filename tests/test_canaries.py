"""Secrets planted wherever a run can meet them: none is in anything that it leaves, but for what dbt itself writes."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from spanline import events
from spanline.api.run import Run
from spanline.home.spec import RunSpec
from spanline.runner.shared.in_text import MASK
from tests.support.journals import journal
from tests.support.project import Project, last_run
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

QUOTED = 'hush-o\'clock "50%" \\ ü'
KEY = "-----BEGIN PRIVATE KEY-----\nhush-first-line\nhush-second-line\n-----END PRIVATE KEY-----\n"
ENVIRONMENT = {
    "BILLING_API_TOKEN": "hush-of-a-token",
    "DBT_ENV_SECRET_NAME": "hush-by-dbts-rule",
    "SIGNING_PRIVATE_KEY": KEY,
    "DATABASE_URL": "postgres://ada:hush-of-an%20address@db.example.com/shop",
    "SERVICE_ADDRESS": "https://example.com/x?page=1&api_key=hush-of-a-query&region=eu",
    "GITHUB_PAT": "hush-of-a-pat",
    "WAREHOUSE_PWD": "hush-of-a-pwd",
    "SENTRY_DSN": "hush-of-a-dsn",
    "GCP_CREDENTIAL": "hush-of-a-credential",
    "QUEUE_CONN_STR": "hush-of-a-conn-str",
    "OPENING_PASSWORD": QUOTED,
    "AIRFLOW_CONN_X": '{"conn_type": "http", "password": "hush-of-a-connection"}',
    "SPANLINE_SECRET_NAMES": "*_webhook_url, lock_combination",
    "TEAM_WEBHOOK_URL": "https://example.com/hush-of-a-webhook",
}
NOT_IN_SQL = ("OPENING_PASSWORD", "DBT_ENV_SECRET_NAME")
"""One has a quote; the other dbt takes in profiles only."""
VARS = {
    "db_password": "hush-of-vars",
    "service": {"api_key": 'hush "nested" \\ ü'},
    "lock_combination": "hush-of-ones-own-name",
}
IN_VARS = ["hush-of-vars", 'hush "nested" \\ ü', "hush-of-ones-own-name"]
IN_ENVIRONMENT = ["hush-of-a-token", "hush-by-dbts-rule", "hush-first-line", "hush-second-line", "hush-of-an%20address"]
IN_ENVIRONMENT += ["hush-of-an address", "hush-of-a-query", "hush-of-a-pat", "hush-of-a-pwd", "hush-of-a-dsn", QUOTED]
IN_ENVIRONMENT += ["hush-of-a-credential", "hush-of-a-conn-str", "hush-of-a-connection", "hush-of-a-webhook"]
IN_PROJECT = ["hush-of-the-profile", "hush-of-project-vars", "hush-of-nested-vars", "hush-of-package-vars"]
IN_PROJECT += ["hush-of-meta", "hush-of-arguments", "hush-of-a-user", "hush-of-a-hook", "hush-of-settings"]
CANARIES = [*IN_VARS, *IN_ENVIRONMENT, *IN_PROJECT]


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def env(name: str) -> str:
    return f"{{{{ env_var('{name}') }}}}"


MODELS = {
    # What the project says in the open, of all variables.
    "leaky": "{{ config(meta={'note': var('db_password'), var('db_password'): [var('service')],"
    " 'api_key': 'hush-of-meta', 'deep': {'pin_secret': 4711}}) }}\n"
    "{% do log('saying ' ~ var('db_password') ~ env_var('BILLING_API_TOKEN'), info=true) %}\n"
    "{% do log('opening ' ~ env_var('OPENING_PASSWORD') | urlencode, info=true) %}\n"
    "{% do log('calling ' ~ tojson(var('service')) ~ tojson(env_var('OPENING_PASSWORD')), info=true) %}\n"
    f"select '{{{{ var('db_password') }}}}' as a, 'hush-of-the-profile' as b, '{{{{ var('service').api_key }}}}' as c,"
    f" '{env('SIGNING_PRIVATE_KEY')}' as d, 'hush-by-dbts-rule' as e,"
    "'{{ env_var('OPENING_PASSWORD') | replace(\"'\", \"''\") }}' as f,"
    f" 'Basic {in_base64('ada:hush-of-vars')}' as g,"
    + ", ".join(f"'{env(name)}' as v_{at}" for at, name in enumerate(ENVIRONMENT) if name not in NOT_IN_SQL)
    + ", '{{ var('warehouse_password') }}{{ var('services').api.token }}{{ var('package_token') }}' as h,"
    " '{{ var('lock_combination') }}' as i",
    # What errors quote.
    "refused": "{% if execute %}{% do exceptions.raise_compiler_error('refused ' ~ var('db_password')"
    " ~ env_var('SIGNING_PRIVATE_KEY') ~ var('services')) %}{% endif %}",
    "broken": "select no_such_column, '{{ var('db_password') }}' as a, '{{ env_var('DATABASE_URL') }}' as b",
    "denied": "{{ config(pre_hook=\"create user ada with password 'hush-of-a-user' valid\") }} select 1 as id",
    "settings": "select * from postgres_scan('host=db user=ada password=hush-of-settings dbname=x', 'a', 'b')",
}


def forms(secret: str) -> list[bytes]:
    """As it is, in SQL, in an address, in base64, and in JSON with and without escapes for what is no ASCII."""
    inside = [json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    twice = [json.dumps(text)[1:-1] for text in inside]
    texts = {secret, secret.replace("'", "''"), quote(secret), quote(secret, safe=""), in_base64(secret)[:-4]}
    return [text.encode() for text in (*texts, *inside, *twice, in_base64(f"ada:{secret}")[8:-4])]


def told_in(text: bytes) -> list[str]:
    return [canary for canary in CANARIES if any(form in text for form in forms(canary))]


@dataclass
class Told:
    project: Project
    run: Run
    receiver: Receiver
    done: subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def told(copy_project: Callable[[], Project], start_receiver: Callable[[], Receiver]) -> Told:
    """A build that tells its secrets wherever dbt lets it, and fails."""
    project, receiver = copy_project(), start_receiver()
    project.write(
        "my_plugin.py",
        "from dbt.adapters.duckdb.plugins import BasePlugin\n\nclass Plugin(BasePlugin):\n    pass\n",
    )
    config = f'{{secret: hush-of-the-profile, name: "{env("DBT_ENV_SECRET_NAME")}"}}'
    plugin = f"      module_paths: [.]\n      plugins: [{{module: my_plugin, config: {config}}}]\n"
    project.write("profiles.yml", (project.path / "profiles.yml").read_text().rstrip("\n") + "\n" + plugin)
    project.write(
        "dbt_project.yml",
        (project.path / "dbt_project.yml").read_text().replace("'over' as word", "'over' /* secret 'hush-of-a-hook' */")
        + "vars:\n  warehouse_password: hush-of-project-vars\n  services: {api: {token: hush-of-nested-vars}}\n"
        "  shop: {package_token: hush-of-package-vars}\n",
    )
    for name, sql in MODELS.items():
        project.write(f"models/{name}.sql", sql)
    project.write(
        "models/leaky.yml",
        "models:\n  - name: leaky\n    description: 'told by hush-of-a-token'\n    columns:\n"
        "      - {name: a, description: 'for hush-of-vars', data_tests:"
        " [accepted_values: {arguments: {values: [hush-of-vars]}, name: accepted, config: {meta: {token: x}}}]}\n"
        "exposures:\n  - {name: board, type: dashboard, depends_on: [ref('leaky')], owner: {name: hush-of-a-pat},\n"
        "     url: 'https://ada:hush-of-arguments@example.com/?token=hush-of-arguments'}\n",
    )
    done = project.spanline(
        "--output", "log-json",
        "dbt", "build", "--select", "leaky refused broken denied settings", "--vars", json.dumps(VARS),
        **ENVIRONMENT, **receiver.lineage_environment, **receiver.otel_environment,
    )  # fmt: skip
    assert done.returncode == 1, (done.stdout + done.stderr).decode()
    return Told(project, last_run(project), receiver, done)


def test_no_file_of_the_run_holds_a_secret(told: Told) -> None:
    directory = told.run.directory
    files = [path for path in told.project.home.rglob("*") if path.is_file()]
    # dbt's own artifacts hold vars, as they do in target/, and spec.json what a resume needs of them.
    ours = [path for path in files if directory.path / "artifacts" not in path.parents and path != directory.spec]
    assert {directory.journal, directory.facts, directory.cursor("openlineage")} <= set(ours)
    assert {path: told_in(path.read_bytes()) for path in ours} == {path: [] for path in ours}


def test_no_backend_is_told_a_secret(told: Told) -> None:
    paths = {request.path for request in told.receiver.requests}
    assert paths == {"/api/v1/lineage", "/v1/traces", "/v1/metrics", "/v1/logs"}
    assert told_in(b"".join(request.body for request in told.receiver.requests)) == []


@pytest.mark.parametrize(
    "command",
    [
        *("show latest", "show latest --json", "tail latest", "tail latest --json", "runs --json"),
        *("stats", "stats --json", "replay latest --all --json"),
    ],
)
def test_no_command_prints_a_secret(told: Told, command: str) -> None:
    environment = {**told.receiver.lineage_environment, **told.receiver.otel_environment}
    done = told.project.spanline(*command.split(), **environment)
    assert done.stdout
    assert told_in(done.stdout + done.stderr) == []


def test_the_lines_of_the_log_hold_no_secret(told: Told) -> None:
    assert b"no_such_column" in told.done.stdout
    assert told_in(told.done.stdout + told.done.stderr) == []


def test_every_canary_was_told_to_dbt_and_what_is_left_says_that_something_was_cut(told: Told) -> None:
    """Without this the tests above would pass where nothing was told at all."""
    of_dbt = [path for folder in ("target", "logs") for path in (told.project.path / folder).rglob("*")]
    assert told_in(b"".join(path.read_bytes() for path in of_dbt if path.is_file())) == CANARIES
    found = journal(told.run)
    said = {event.message for event in found if isinstance(event, events.Log)}
    assert {f"saying {MASK}{MASK}", f"opening {MASK}", f'calling {{"api_key": "{MASK}"}}"{MASK}"'} <= said
    compiled = {event.unique_id: event.sql for event in found if isinstance(event, events.NodeCompiled)}
    assert re.findall(r"'([^']*)'", compiled["model.shop.leaky"]) == [
        *(MASK, MASK, MASK, f"{MASK}\n", MASK, MASK, f"Basic {MASK}", MASK, f"{MASK}\n"),
        f"postgres://ada:{MASK}@db.example.com/shop",
        f"https://example.com/x?page=1&api_key={MASK}&region=eu",
        *(MASK, MASK, MASK, MASK, MASK),
        f'{{"conn_type": "http", "password": "{MASK}"}}',
        "*_webhook_url, lock_combination",
        *(MASK, 3 * MASK, MASK),
    ]
    described = {event.unique_id: event for event in found if isinstance(event, events.NodeDescribed)}
    assert described["model.shop.leaky"].meta == {
        "note": MASK,
        MASK: [{"api_key": MASK}],
        "api_key": MASK,
        "deep": {"pin_secret": MASK},
    }
    finished = {event.unique_id: event for event in found if isinstance(event, events.NodeFinished)}
    messages = {key: event.message or "" for key, event in finished.items()}
    assert f"refused {MASK}" in messages["model.shop.refused"]
    assert "no_such_column" in messages["model.shop.broken"]
    assert f"password '{MASK}'" in messages["model.shop.denied"]
    (started,) = [event for event in found if isinstance(event, events.DbtStarted)]
    assert started.argv[:-1] == ["build", "--select", "leaky refused broken denied settings", "--vars"]
    assert json.loads(started.argv[-1]) == {
        "db_password": MASK,
        "service": {"api_key": MASK},
        "lock_combination": MASK,
    }


# --- what is no harm


@pytest.mark.slow
def test_secrets_that_are_words_of_the_project_leave_the_run_as_it_was(project: Project) -> None:
    words = ["path", "model", "orders", "shop", "success", "unique_id", "main", "build", "node_finished", "1", "table"]
    environment = {f"DBT_ENV_SECRET_{number}": word for number, word in enumerate(words)}
    done = project.spanline(
        "dbt", "build", "--vars", "{auth_flow: code, password_column: id, token: totals, secret: seed}", **environment
    )
    assert done.returncode == 0, done.stdout.decode()
    run = last_run(project)
    state = run.state
    results = {r["unique_id"]: r["status"] for r in project.artifact("run_results.json")["results"]}  # type: ignore[index]
    ours = {**state.nodes, **state.hooks}
    assert {key: node.status for key, node in ours.items() if key in results} == results
    assert {key for key in ours if key.startswith(("model.", "seed."))} >= {
        key for key in results if key.startswith(("model.", "seed."))
    }
    orders = state.descriptions["model.shop.orders"]
    assert orders.relation == events.Relation(
        identifier="orders", name='"shop"."main"."orders"', database="shop", schema="main"
    )
    again = project.spanline("retry", "latest", **environment)
    assert again.returncode == 0
    assert b"nothing" in (again.stdout + again.stderr).lower()


# --- who may read it


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_spec_keeps_names_of_secret_variables_and_never_their_values(told: Told) -> None:
    spec = RunSpec.load(told.run.directory.spec)
    assert "DBT_ENV_SECRET_NAME" in spec.secret_names
    assert told_in(told.run.directory.spec.read_bytes()) == IN_VARS


@pytest.mark.parametrize("detached", [False, True])
def test_the_process_list_shows_no_variables_and_what_is_kept_is_for_its_owners_eyes(
    project: Project, monkeypatch: pytest.MonkeyPatch, *, detached: bool
) -> None:
    monkeypatch.setenv("GATE", str(project.path / "open"))
    run = project.start("run", "-s", "gate", "--vars", json.dumps(VARS), detached=detached)
    try:
        eventually(lambda: "model.shop.gate" in run.state.nodes, "the model under way")
        session = run.state.session
        attempt = next(e for e in journal(run) if isinstance(e, events.AttemptStarted))
        assert session is not None
        runner = psutil.Process(attempt.pid)
        family = [runner, *runner.children(recursive=True)]
        if detached:
            family.append(psutil.Process(session.pid))
        for process in family:
            line = " ".join(process.cmdline())
            assert line
            assert told_in(line.encode()) == []
    finally:
        (project.path / "open").touch()
        assert run.wait(60).success
    directory = run.directory
    assert mode(directory.path) == 0o700
    logs = [directory.stdout, directory.stderr, directory.supervisor_log] if detached else []
    assert {path.name: mode(path) for path in (directory.spec, directory.journal, *logs)} == {
        path.name: 0o600 for path in (directory.spec, directory.journal, *logs)
    }
