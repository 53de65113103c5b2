"""DbtOperator: dbt as a task, deferred or not; and an operator for each of dbt's common commands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AssetAlias, BaseOperator, conf

import spanline
from spanline import errors
from spanline.airflow import assets, lineage, links, metrics
from spanline.airflow.command import Command, Options
from spanline.airflow.exceptions import DbtTimeout, SpanlineError, UsageError, airflow_exceptions
from spanline.airflow.hook import DbtHook
from spanline.airflow.task_log import TaskLog, log, log_summary
from spanline.airflow.task_result import DbtTaskResult
from spanline.airflow.trigger import BY, DbtExecutionTrigger
from spanline.home.spec import RunSpec
from spanline.journal.state import DIED, TRIGGER_REASON
from spanline.lineage import names
from spanline.runner.shared import settings

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from airflow.sdk import Context

    from spanline.results.result import RunResult

RUN_ID: Final = "job_run_id"
RUN_URL: Final = "job_run_url"
_ANSWER_SECONDS: Final = 60.0
"""So much later than the run's supervisor the trigger says that the time is up."""
_NOT_OUTLIVED: Final = "KubernetesExecutor"
"""Where a task's end is that of its container, and of all that runs in it."""


class DbtOperator(BaseOperator):
    """Runs one dbt command, or several `steps` in order. docs/airflow.md has a table of the arguments.

    The run's supervisor is a process of its own: it outlives this task's process, and so sees a cancel through, and a
    deferral. A new try goes on where the last one has stopped, or follows the run where that is still alive.
    """

    template_fields: ClassVar[Sequence[str]] = (
        *("dbt_project_dir", "dbt_command", "steps", "venv_path", "conn_id", "target", "profiles_dir"),
        *("select", "exclude", "vars", "full_refresh", "threads", "env_vars", "schema_override", "trigger_reason"),
        *("dbt_docs_url", "artifacts_url", "trace_url", "lineage_url", "run_url"),
        *("artifacts_conn_id", "artifacts_bucket", "home_dir"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"vars": "json", "env_vars": "json", "steps": "json"}
    operator_extra_links = (
        links.DbtDocsLink(),
        links.DbtArtifactsLink(),
        links.DbtTraceLink(),
        links.DbtLineageLink(),
    )
    ui_color = "#ffe9e3"
    command: ClassVar[str | None] = None
    """The dbt command of a subclass."""

    def __init__(
        self,
        *,
        dbt_project_dir: str,
        dbt_command: Command | None = None,
        venv_path: str | None = None,
        conn_id: str | None = None,
        target: str | None = None,
        profiles_dir: str | None = None,
        steps: Sequence[Command] | None = None,
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        vars: Mapping[str, object] | str | None = None,  # noqa: A002 - dbt's name
        full_refresh: bool | str = False,
        threads: int | str | None = None,
        env_vars: Mapping[str, str] | None = None,
        schema_override: str | None = None,
        trigger_reason: str | None = None,
        retry_limit: int = 3,
        dbt_retry_delay: float = 1,
        deferrable: bool | None = None,
        check_interval: float = 60,
        timeout: float | None = 86400,
        resume: bool = True,
        dbt_docs_url: str | None = None,
        artifacts_url: str | None = None,
        trace_url: str | None = None,
        lineage_url: str | None = None,
        run_url: str | None = None,
        upload_artifacts: bool = False,
        artifacts_conn_id: str | None = None,
        artifacts_bucket: str | None = None,
        emit_assets: bool = False,
        home_dir: str | None = None,
        **airflow: Any,  # noqa: ANN401 - what BaseOperator takes
    ) -> None:
        super().__init__(**airflow)
        self.dbt_project_dir = _plain(dbt_project_dir)
        self.dbt_command = dbt_command or self.command
        self.venv_path = _plain(venv_path)
        self.conn_id = conn_id
        self.target = target
        self.profiles_dir = _plain(profiles_dir)
        self.steps = steps
        self.select = select
        self.exclude = exclude
        self.vars = vars
        self.full_refresh = full_refresh
        self.threads = threads
        self.env_vars = env_vars
        self.schema_override = schema_override
        self.trigger_reason = trigger_reason
        self.retry_limit = retry_limit
        self.dbt_retry_delay = dbt_retry_delay
        asked = conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        self.deferrable = bool(asked)
        self.check_interval = check_interval
        self.timeout = timeout
        self.resume = resume
        self.dbt_docs_url = dbt_docs_url
        self.artifacts_url = artifacts_url
        self.trace_url = trace_url
        self.lineage_url = lineage_url
        self.run_url = run_url
        self.upload_artifacts = upload_artifacts
        self.artifacts_conn_id = artifacts_conn_id
        self.artifacts_bucket = artifacts_bucket
        self.emit_assets = emit_assets
        self.home_dir = _plain(home_dir)
        self.pushed_links: dict[str, str] = {}
        self._run: spanline.Run | None = None
        self._pending: tuple[str, ...] = ()
        self._killed = False
        if emit_assets:
            self._alias = AssetAlias(f"spanline:{self.dag_id}.{self.task_id}")
            self.outlets.append(self._alias)

    # --- Airflow's

    def execute(self, context: Context) -> dict[str, object]:
        """Run dbt to its end; or defer to the trigger, and go on in `execute_complete`."""
        run = self._begin(context)
        if self.deferrable and not self._killed and self._may_defer():
            self._defer(run)
        return self._see_through(run, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, object]:
        """Go on where the trigger has left: return the summary, raise what the run's outcome asks for, or resume."""
        run_id, status = str(event["run_id"]), str(event["status"])
        try:
            run = self._hook().get_run(run_id)
        except UsageError as error:
            raise SpanlineError(f"{event['message']}; and on this worker: {error}") from error
        if status == "timeout" and run.live:
            raise DbtTimeout(str(event["message"]), run_id=run_id, category="timeout")
        if run.live:
            log.warning("following the run from the worker: %s", event["message"])
        self._run = run
        if status == "died" and run.session < self.retry_limit:
            log.warning("run %s died and is resumed", run.id)
            return self.execute(context)
        return self._end(run, run.wait(), context)

    def on_kill(self) -> None:
        """Ask for the run's cancel, and return: the supervisor sees it through. A signal handler, which takes no lock.

        `execute` goes on after it, and raises when the run has ended.
        """
        self._killed = True
        try:
            self._cancel("the task was killed, cleared, or out of time")
        except errors.SpanlineError as error:
            log.warning(f"the run could not be cancelled: {error}")

    def _cancel(self, why: str) -> None:
        run = self._run
        if run is not None:
            run.cancel(by=BY, reason=why)
            state = run.state
            log.warning(f"cancelling: {state.completed} of {state.total} nodes are completed", run_id=run.id)
            return
        for run_id in self._pending:
            spanline.cancel(run_id, home_dir=self.home_dir, project_dir=self.dbt_project_dir, by=BY, reason=why)

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage | None:
        """What the whole run read and wrote, for the task's own event in OpenLineage."""
        return lineage.of_run(self._run.state) if self._run is not None else None

    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

    # --- a run, from its start to its end

    def _begin(self, context: Context) -> spanline.Run:
        """Start the task's run, or go on with it; everything that is known of it is pushed at once."""
        hook, caller = self._hook(), self._caller(context)
        with airflow_exceptions():
            last = spanline.find(caller=caller, home_dir=self.home_dir, project_dir=self.dbt_project_dir)
        new = spanline.new_run_id()
        self._pending = (new, last.id) if last is not None and self.resume else (new,)
        task_instance = context["ti"]
        task_instance.xcom_push(key=RUN_ID, value=self._pending[-1])
        steps = hook.steps(
            self.dbt_command,
            self.steps,
            Options(
                select=self.select,
                exclude=self.exclude,
                vars=self.vars,
                full_refresh=_is_true(self.full_refresh),
            ),
        )
        if not steps:
            raise UsageError("give the operator a `dbt_command`, or `steps`")
        if last is not None and self._is_done(last, steps, hook, context):
            log.info(f"run {last.id} has succeeded since the last try ended")
            run = last
        else:
            run = hook.start(
                steps,
                caller=caller,
                environment=lineage.variables(context),
                run_id=new,
                resume=self.resume,
            )
        self._run = run
        if self._killed:
            run.cancel(by=BY, reason="the task was killed while the run began")
        task_instance.xcom_push(key=RUN_ID, value=run.id)
        self._push_links(run, hook, context)
        log.info(f"run {run.id}, session {run.session}", run_id=run.id, directory=str(run.directory.path))
        return run

    def _is_done(self, last: spanline.Run, steps: list[list[str]], hook: DbtHook, context: Context) -> bool:
        """Whether the run of an earlier try, whose worker has vanished, was brought to a good end without it.

        After a clear Airflow counts on from the tries that there were: then what succeeded is asked for anew.
        """
        task_instance = context["ti"]
        first_try = task_instance.max_tries - self.retries + 1
        if not self.resume or task_instance.try_number <= first_try or last.live or not last.is_complete:
            return False
        spec = RunSpec.load(last.directory.spec)
        return spec.steps == steps and hook.variables().items() <= spec.environment.items()

    def _may_defer(self) -> bool:
        """Whether the supervisor outlives this task's process, so that the task may end meanwhile."""
        executor = self.executor or conf.get("core", "executor", fallback="")
        if _NOT_OUTLIVED not in executor:
            return True
        log.warning(f"not deferred: with {_NOT_OUTLIVED} nothing outlives a task's container")
        return False

    def _defer(self, run: spanline.Run) -> None:
        limit = self._limit()
        self.defer(
            trigger=DbtExecutionTrigger(
                run_id=run.id,
                home_dir=str(run.directory.home),
                deadline=time.time() + limit + _ANSWER_SECONDS if limit is not None else None,
                check_interval=float(self.check_interval),
            ),
            method_name=self.execute_complete.__name__,
        )

    def _see_through(self, run: spanline.Run, context: Context) -> dict[str, object]:
        tell = TaskLog(run.session)
        for event, state in run.states():
            tell(event, state)
        result = run.wait()
        if result.outcome == DIED and not self._killed and run.session < self.retry_limit:
            log.warning(f"run {run.id} died and is resumed")
            return self._see_through(self._begin(context), context)
        return self._end(run, result, context)

    def _end(self, run: spanline.Run, result: RunResult, context: Context) -> dict[str, object]:
        state = run.state
        log_summary(result)
        url = self._push_links(run, self._hook(), context, result)
        self._tell_airflow(result, state, context)
        with airflow_exceptions():
            result.raise_for_failure()
        return DbtTaskResult.of(result, url).to_dict()

    def _tell_airflow(self, result: RunResult, state: spanline.RunState, context: Context) -> None:
        """Airflow's metrics and asset events. That one of them can't be made is no reason to fail the task."""
        try:
            metrics.emit(result, state, self.dag_id, self.task_id)
            if self.emit_assets:
                assets.emit(state, self._alias, context)
        except Exception as error:  # noqa: BLE001 - an observer never changes the outcome of a run
            log.warning(f"Airflow is not told all of the run: {type(error).__name__}: {error}")

    def _push_links(self, run: spanline.Run, hook: DbtHook, context: Context, result: RunResult | None = None) -> str:
        """Push each link that is configured, and the run's URL, which is returned."""
        state, task_instance = run.state, context["ti"]
        of_connection = hook.urls()
        session = state.session
        values = {
            "run_id": run.id,
            "trace_id": session.trace_id if session is not None else "",
            "namespace": self._namespace(),
            "job": names.session_job_name(state.project),
        }
        docs = self.dbt_docs_url or of_connection.get("dbt_docs_url", "")
        artifacts = self.artifacts_url or of_connection.get("artifacts_url", "")
        trace = links.filled(self.trace_url or of_connection.get("trace_url", ""), **values)
        lineage_of = links.filled(self.lineage_url or of_connection.get("lineage_url", ""), **values)
        found = {
            links.DbtDocsLink: links.docs_url(docs, _first_node(result)),
            links.DbtArtifactsLink: links.artifacts_url(artifacts, self.dag_id, self.task_id, task_instance.run_id),
            links.DbtTraceLink: trace,
            links.DbtLineageLink: lineage_of,
        }
        self.pushed_links = {kind().xcom_key: url for kind, url in found.items() if url}
        url = links.filled(self.run_url or "", **values) or trace or found[links.DbtArtifactsLink]
        url = url or run.directory.path.as_uri()
        for key, value in {**self.pushed_links, RUN_URL: url}.items():
            task_instance.xcom_push(key=key, value=value)
        return url

    # --- what the arguments amount to

    def _hook(self) -> DbtHook:
        if self.upload_artifacts and not self.artifacts_bucket:
            raise UsageError("`upload_artifacts` needs an `artifacts_bucket`")
        return DbtHook(
            self.dbt_project_dir,
            self.venv_path,
            self.conn_id,
            self.target,
            self.profiles_dir,
            threads=int(self.threads) if self.threads else None,
            schema_override=self.schema_override or None,
            env_vars=self.env_vars,
            retry_limit=self.retry_limit,
            retry_delay=self.dbt_retry_delay,
            timeout=self._limit(),
            artifacts_conn_id=self.artifacts_conn_id if self.upload_artifacts else None,
            artifacts_bucket=self.artifacts_bucket if self.upload_artifacts else None,
            home_dir=self.home_dir,
        )

    def _limit(self) -> float | None:
        """The lesser of `timeout` and `execution_timeout`, in seconds."""
        of_airflow = self.execution_timeout
        limits = [self.timeout, of_airflow.total_seconds() if isinstance(of_airflow, timedelta) else None]
        return min((float(limit) for limit in limits if limit is not None), default=None)

    def _caller(self, context: Context) -> dict[str, str]:
        """Who asks: the same for every try of a task."""
        task_instance = context["ti"]
        found = {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "run_id": task_instance.run_id,
            "map_index": str(task_instance.map_index),
        }
        return {**found, TRIGGER_REASON: str(self.trigger_reason)} if self.trigger_reason else found

    def _namespace(self) -> str:
        return dict(self.env_vars or {}).get(settings.OPENLINEAGE_NAMESPACE, "dbt")


class DbtBuildOperator(DbtOperator):
    """`dbt build`."""

    command = "build"


class DbtRunOperator(DbtOperator):
    """`dbt run`."""

    command = "run"


class DbtTestOperator(DbtOperator):
    """`dbt test`."""

    command = "test"


class DbtSeedOperator(DbtOperator):
    """`dbt seed`."""

    command = "seed"


class DbtSnapshotOperator(DbtOperator):
    """`dbt snapshot`."""

    command = "snapshot"


class DbtSourceFreshnessOperator(DbtOperator):
    """`dbt source freshness`."""

    command = "source freshness"


class DbtDocsGenerateOperator(DbtOperator):
    """`dbt docs generate`."""

    command = "docs generate"


def _first_node(result: RunResult | None) -> str | None:
    """The first model of a run, or else its first node: of which dbt's documentation is shown."""
    if result is None or not result.nodes:
        return None
    found = (node.unique_id for node in result.nodes if node.resource_type == "model")
    return next(found, result.nodes[0].unique_id)


def _plain(path: object) -> Any:  # noqa: ANN401 - Airflow fills templates in
    """A path as a text: Airflow serialises neither paths nor subclasses of `str`, and says so by hiding the DAG."""
    return None if path is None else str.__str__(path) if isinstance(path, str) else str(path)


def _is_true(value: bool | str) -> bool:
    """Also where a template has made a text of it."""
    return value if isinstance(value, bool) else value.strip().lower() in ("true", "1", "yes")
