"""A real Airflow on free ports of this machine: its four processes on SQLite, driven over its REST API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

AIRFLOW = Path(sys.executable).with_name("airflow")
_SECRET = "a-secret-of-this-site-alone-which-is-long-enough-for-sha512-" * 2
_START_SECONDS = 120.0
_RUN_SECONDS = 90.0
_STOP_SECONDS = 5.0
_ENDED = ("success", "failed")


def settings(home: Path, dags: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of an Airflow of its own."""
    names = ("AIRFLOW", "DBT_", "OPENLINEAGE_", "OTEL_", "SPANLINE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {
        **clean,
        "PATH": f"{AIRFLOW.parent}{os.pathsep}{clean.get('PATH', '')}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        **more,
    }


def airflow(environment: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [AIRFLOW, *args], env=environment, capture_output=True, text=True, check=False, timeout=_START_SECONDS
    )


class Site:
    """A running Airflow."""

    def __init__(self, place: Path, dags: Path, more: Mapping[str, str]) -> None:
        self.place = place
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = settings(
            place,
            dags,
            {
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API__SECRET_KEY": _SECRET,
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__API_AUTH__JWT_SECRET": _SECRET,
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                "AIRFLOW__CORE__PARALLELISM": "4",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
                # SQLite admits one writer; by default the others wait for 5 s, and a request that comes then fails.
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{place / 'airflow.db'}?timeout=60",
                "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
                "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
                "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "6",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
                **more,
            },
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""

    def start(self) -> None:
        done = airflow(self.environment, "db", "migrate")
        assert done.returncode == 0, done.stderr
        self.start_one("api-server")
        self.start_one("scheduler", "--skip-serve-logs")
        self.start_one("dag-processor")
        self.start_one("triggerer", "--skip-serve-logs")
        eventually(self._log_in, "the API server's answer", _START_SECONDS)

    def start_one(self, name: str, *args: str) -> None:
        with (self.place / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [AIRFLOW, name, *args],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop_one(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for name in list(self.processes):
            self.stop_one(name)

    # --- over the REST API: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/v2{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def has(self, path: str) -> Any:
        """The answer, or None where there is none yet."""
        try:
            return self.ask(path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def trigger(self, dag_id: str, **conf: object) -> str:
        """Start a run of a DAG, as soon as that is known; its id."""
        eventually(lambda: self.has(f"/dags/{dag_id}"), f"the DAG {dag_id}", _START_SECONDS)
        return str(self.ask(f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def ended(self, dag_id: str, run_id: str) -> str:
        """Wait for the end of a DAG's run; its state."""

        def state() -> str | None:
            found = self.ask(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return found if found in _ENDED else None

        return eventually(state, f"the end of {dag_id}", _RUN_SECONDS)

    def task(self, dag_id: str, run_id: str, task_id: str = "dbt") -> dict[str, Any]:
        return self.ask(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")

    def reaches(self, dag_id: str, run_id: str, *states: str, task_id: str = "dbt") -> dict[str, Any]:
        """Wait until a task is in one of these states."""

        def found() -> dict[str, Any] | None:
            task = self.task(dag_id, run_id, task_id)
            return task if task["state"] in states else None

        return eventually(found, f"{dag_id}.{task_id} being {' or '.join(states)}", _RUN_SECONDS)

    def mark(self, dag_id: str, run_id: str, state: str, task_id: str = "dbt") -> None:
        """What a user's button does."""
        self.ask(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state}, "PATCH")

    def xcom(self, dag_id: str, run_id: str, key: str = "return_value", task_id: str = "dbt") -> Any:
        found = self.has(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=false")
        return None if found is None else found["value"]

    def links(self, dag_id: str, run_id: str, task_id: str = "dbt") -> dict[str, str | None]:
        found = self.ask(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
        return dict(found["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str = "dbt", attempt: int = 1) -> str:
        """What the task's log says, over all its processes."""
        folder = self.place / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return "".join(place.read_text() for place in sorted(folder.glob(f"attempt={attempt}.log*")))

    def _log_in(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, (self.place / f"{name}.log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url}/auth/token", timeout=5) as answer:
                self._token = json.loads(answer.read())["access_token"]
        except OSError:
            time.sleep(0.2)
            return False
        return True


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
