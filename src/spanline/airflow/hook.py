"""DbtHook: dbt by Spanline with what Airflow knows: a profile from a connection, credentials for stored artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from airflow.providers.common.compat.sdk import BaseHook

import spanline
from spanline import profiles
from spanline.airflow.command import Command, Options, steps_of
from spanline.airflow.exceptions import airflow_exceptions
from spanline.airflow.storage import storage_options, storage_url
from spanline.airflow.task_result import DbtTaskResult
from spanline.dbt.project import PROJECT_FILE
from spanline.errors import ArtifactsNotFound, SpanlineError, UsageError
from spanline.runner.shared import settings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

CONN_TYPE: Final = "dbt"

URLS: Final = ("dbt_docs_url", "artifacts_url", "trace_url", "lineage_url")
"""Keys in a connection's `extra` that are links' and not dbt's."""
_ADAPTER: Final = "adapter"
_TARGET: Final = "target"


class DbtHook(BaseHook):
    """Runs dbt in a project, and reads what it left.

    `venv_path` is a directory with `bin/python` in it, whose interpreter has dbt; without it, it is Airflow's own.
    `conn_id` is a connection to the warehouse, of which dbt's profile is made; without it dbt reads `profiles.yml`, in
    `profiles_dir` if that is given. A connection of type `dbt` names its adapter in `extra`; with none it only has
    links, and dbt reads `profiles.yml`. `retry_limit` is the largest number of attempts of a command, and `retry_delay`
    the seconds before the second one, which double from then on. `home_dir` is where runs are kept (default:
    `SPANLINE_HOME`, else `.spanline` in the project).
    """

    conn_name_attr = "conn_id"
    default_conn_name = "dbt_default"
    conn_type = CONN_TYPE
    hook_name = "dbt"

    def __init__(
        self,
        dbt_project_dir: str | Path | None = None,
        venv_path: str | Path | None = None,
        conn_id: str | None = None,
        target: str | None = None,
        profiles_dir: str | Path | None = None,
        *,
        threads: int | None = None,
        schema_override: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        retry_limit: int = 3,
        retry_delay: float = 1,
        timeout: float | None = None,
        artifacts_conn_id: str | None = None,
        artifacts_bucket: str | None = None,
        home_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.dbt_project_dir = Path(dbt_project_dir) if dbt_project_dir else None
        self.venv_path = Path(venv_path) if venv_path else None
        self.conn_id = conn_id
        self.target = target
        self.profiles_dir = profiles_dir
        self.threads = threads
        self.schema_override = schema_override
        self.env_vars = dict(env_vars or {})
        self.retry_limit = retry_limit
        self.retry_delay = retry_delay
        self.timeout = timeout
        self.artifacts_conn_id = artifacts_conn_id
        self.artifacts_bucket = artifacts_bucket
        self.home_dir = home_dir
        self._run_id: str | None = None
        self._connection: Connection | None = None

    def get_conn(self) -> spanline.profiles.Profile | None:
        """The profile that is made of the connection; None where dbt reads `profiles.yml`.

        Raises `DbtProfileException`, which names the connection and the field, and never a value.
        """
        found = self._of_airflow()
        if found is None:
            return None
        extra = {key: value for key, value in found.extra_dejson.items() if key not in URLS}
        adapter = extra.pop(_ADAPTER, None) or None
        if found.conn_type == CONN_TYPE and adapter is None:
            return None
        fields = {
            "conn_type": found.conn_type,
            "host": found.host,
            "port": found.port,
            "login": found.login,
            "password": found.password,
            "schema": found.schema,
            "extra": extra,
        }
        with airflow_exceptions():
            connection = profiles.Connection.from_mapping(fields, str(self.conn_id))
            return profiles.resolve(connection, adapter and str(adapter), target=self.target, threads=self.threads)

    def urls(self) -> dict[str, str]:
        """The URLs for links that the connection's `extra` has."""
        found = self._of_airflow()
        extra = found.extra_dejson if found is not None else {}
        return {key: str(extra[key]) for key in URLS if extra.get(key)}

    def start(
        self,
        steps: Sequence[Sequence[str]],
        *,
        caller: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
        run_id: str | None = None,
        resume: bool = True,
    ) -> spanline.Run:
        """Start a run, or go on with the caller's last one: see `spanline.start_or_resume`. Its supervisor is detached.

        `environment` adds to `env_vars`. Raises Airflow's kind of what that raises.
        """
        with airflow_exceptions():
            return self._begin(
                partial(spanline.start_or_resume, caller=caller, resume=resume, run_id=run_id), steps, environment
            )

    def run_dbt_task(
        self,
        dbt_command: Command,
        *,
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        vars: Mapping[str, object] | str | None = None,  # noqa: A002 - dbt's name
        full_refresh: bool = False,
    ) -> DbtTaskResult:
        """Run one dbt command, and wait for its end. A run that fails raises nothing: see `DbtTaskResult.success`."""
        options = Options(select=select, exclude=exclude, vars=vars, full_refresh=full_refresh)
        with airflow_exceptions():
            run = self._begin(spanline.start, self.steps(dbt_command, None, options))
            return DbtTaskResult.of(run.wait(), run.directory.path.as_uri())

    def _begin(
        self,
        begin: Callable[..., spanline.Run],
        steps: Sequence[Sequence[str]],
        environment: Mapping[str, str] | None = None,
    ) -> spanline.Run:
        connection = self._of_artifacts()
        run = begin(
            steps,
            project_dir=self.dbt_project_dir,
            python=self.python,
            environment=self.variables(environment),
            profile=self.get_conn(),
            home_dir=self.home_dir,
            artifacts=storage_url(self.artifacts_bucket, connection),
            storage_options=storage_options(connection),
            detached=True,
            retry_limit=self.retry_limit,
            retry_delay=self.retry_delay,
            timeout=self.timeout,
        )
        self._run_id = run.id
        return run

    def steps(self, command: Command | None, steps: Sequence[Command] | None, options: Options) -> list[list[str]]:
        """The arguments of each dbt command, with those that say which target and how many threads."""
        plain = msgspec.structs.replace(options, target=self.target, threads=self.threads)
        return steps_of(command, steps, plain)

    @property
    def python(self) -> str | None:
        """The interpreter that has dbt; None for Airflow's own."""
        return str(self.venv_path / "bin" / "python") if self.venv_path is not None else None

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What is added to dbt's environment."""
        found = {**self.env_vars, **(more or {})}
        if self.schema_override:
            found[settings.DBT_SCHEMA_OVERRIDE] = self.schema_override
        if self.profiles_dir:
            found[settings.DBT_PROFILES_DIR] = str(self.profiles_dir)
        return found

    def get_run(self, run_id: str) -> spanline.Run:
        """A run by its id, whoever started it. Raises Airflow's kind of `RunNotFound`."""
        with airflow_exceptions():
            return spanline.attach(run_id, home_dir=self._home())

    def wait_for_run(self, run_id: str, timeout: float | None = None, check_interval: float = 60) -> DbtTaskResult:
        """Wait until a run has ended. Raises `TimeoutError` after `timeout` seconds, and leaves the run as it is.

        `check_interval` is there for those who pass it: the end is seen within a second.
        """
        run = self.get_run(run_id)
        return DbtTaskResult.of(run.wait(timeout), run.directory.path.as_uri())

    def get_manifest(self, run_id: str | None = None) -> dict[str, object]:
        """`manifest.json` of a run, by default this hook's last, else of `target/`; `{}` where there is none."""
        return self._artifact("manifest.json", run_id)

    def get_run_results(self, run_id: str | None = None) -> dict[str, object]:
        """`run_results.json`, as `get_manifest`."""
        return self._artifact("run_results.json", run_id)

    def get_catalog(self, run_id: str | None = None) -> dict[str, object]:
        """`catalog.json`, as `get_manifest`."""
        return self._artifact("catalog.json", run_id)

    def get_sources(self, run_id: str | None = None) -> dict[str, object]:
        """`sources.json`, as `get_manifest`."""
        return self._artifact("sources.json", run_id)

    def test_connection(self) -> tuple[bool, str]:
        """Have dbt connect to the warehouse, by `dbt debug` in an empty project. Airflow's button shows the answer."""
        from spanline.doctor.connection import debugged  # noqa: PLC0415 - a DAG that is only parsed needs none of it

        try:
            profile = self.get_conn()
            if profile is None:
                return False, "this connection names no adapter: dbt would read a profiles.yml"
            with tempfile.TemporaryDirectory(prefix="spanline-") as folder:
                project = Path(folder)
                (project / PROJECT_FILE).write_text("name: spanline_check\nprofile: spanline_check\n")
                result = debugged(["--connection"], python=self.python, project_dir=project, profile=profile)
        except SpanlineError as error:
            return False, str(error)
        return result.success, "dbt connects to the warehouse" if result.success else str(result.error)

    def _artifact(self, name: str, run_id: str | None) -> dict[str, object]:
        asked = run_id or self._run_id
        if asked is not None:
            try:
                place = self.get_run(asked).artifact(name)
            except ArtifactsNotFound:
                return {}
        else:
            place = self._project() / _TARGET / name
        try:
            return msgspec.json.decode(place.read_bytes(), type=dict[str, object])
        except FileNotFoundError:
            return {}

    def _home(self) -> Path:
        from spanline.api.start import find_home  # noqa: PLC0415 - a DAG that is only parsed needs none of it

        return find_home(self.home_dir, self.dbt_project_dir)

    def _project(self) -> Path:
        with airflow_exceptions():
            if self.dbt_project_dir is None:
                raise UsageError("give the hook a `dbt_project_dir`")
        return self.dbt_project_dir

    def _of_airflow(self) -> Connection | None:
        if self.conn_id and self._connection is None:
            self._connection = self.get_connection(self.conn_id)
        return self._connection

    def _of_artifacts(self) -> Connection | None:
        return self.get_connection(self.artifacts_conn_id) if self.artifacts_conn_id else None
