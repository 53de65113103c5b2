"""What dbt v2 is about to do: its own `dbt list`, beside the command, has the selection and writes the manifest.

The command itself writes its manifest only when everything has run, and its stream never says what it has selected.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from .. import describe
from ..shared.settings import DBT_OTEL_FILE_NAME, DBT_SEND_ANONYMOUS_USAGE_STATS, DBT_WRITE_JSON
from .arguments import Names, is_full_refresh, listing
from .translator import Fields, said

_QUIET = {DBT_SEND_ANONYMOUS_USAGE_STATS: "false", DBT_WRITE_JSON: "true", DBT_OTEL_FILE_NAME: ""}
"""It is no command of the user's: nobody is told of it."""


class Entry(dict):  # type: ignore[type-arg]
    """An object of the manifest, whose fields are attributes too, as those of dbt Core's objects are.

    What dbt leaves out is None.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class Preview:
    """Starts `dbt list` for a command; `wait` waits for its end."""

    def __init__(self, program: str, args: Sequence[str], environ: Mapping[str, str], folder: str) -> None:
        """`folder` is an empty one, which only the user can read."""
        self._args = args
        self._folder = folder
        self._said = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `wait` closes it
        places = ["--target-path", folder, "--log-path", folder]
        self._process = subprocess.Popen(
            [program, *listing(args), *places],
            env={**{name: value for name, value in environ.items() if name not in _QUIET}, **_given(_QUIET)},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> Previewed:
        """What it has found. Raises `RuntimeError` with what dbt has said where it can't be found."""
        code = self._process.wait()
        self._said.seek(0)
        text = self._said.read().decode("utf-8", "replace")
        self._said.close()
        if code != 0:
            raise RuntimeError(f"dbt list failed: {said({'body': text})[-2000:]}")
        selected = [json.loads(line)["unique_id"] for line in text.splitlines() if line.startswith("{")]
        with open(os.path.join(self._folder, "manifest.json"), encoding="utf-8") as file:  # noqa: PTH118
            manifest = json.load(file, object_hook=Entry)
        shutil.rmtree(self._folder, ignore_errors=True)  # not when dbt has ended: we may be killed before
        return Previewed(selected, manifest, full_refresh=is_full_refresh(self._args))


class Previewed:
    """What a command is about to do."""

    def __init__(self, selected: Sequence[str], manifest: Any, *, full_refresh: bool) -> None:
        for kind in ("sources", "exposures", "unit_tests"):
            for unique_id, entry in manifest[kind].items():
                entry.setdefault("resource_type", unique_id.partition(".")[0])
        self._manifest = manifest
        self._nodes = {**manifest.nodes, **manifest.unit_tests}
        self._full_refresh = full_refresh
        chosen = (self._nodes[unique_id] for unique_id in selected if unique_id in self._nodes)
        self.selection = sorted(node.unique_id for node in chosen if node.config.get("materialized") != "ephemeral")
        """The nodes that will run; ephemeral models are none of these."""

    @property
    def adapter(self) -> str:
        """The adapter's type."""
        return self._manifest.metadata.get("adapter_type") or ""

    @property
    def names(self) -> Names:
        """The fully qualified name of every node of the project."""
        return {unique_id: node.fqn for unique_id, node in self._nodes.items() if "fqn" in node}

    def descriptions(self, of: Sequence[str]) -> list[Fields]:
        """What the manifest has of these nodes, and before each, of what it is made from."""
        nodes = [self._nodes[unique_id] for unique_id in of]
        nodes += describe.exposures_of(set(of), self._manifest)
        found = describe.with_upstreams(nodes, self._manifest, set())
        return [describe.node(node, self._manifest, full_refresh=self._full_refresh) for node in found]


def _given(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
