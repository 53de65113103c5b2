"""Who started a run, as the environment says it to any OpenLineage producer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import msgspec

from spanline.events import LineageRun
from spanline.runner.shared import settings


class _Named(msgspec.Struct):
    name: str
    namespace: str


class _Ran(msgspec.Struct, rename="camel"):
    run_id: str


class _Root(msgspec.Struct):
    run: _Ran
    job: _Named


class _Parent(msgspec.Struct):
    run: _Ran
    job: _Named
    root: _Root | None = None


class _Context(msgspec.Struct):
    parent: _Parent


def lineage_parent(environ: Mapping[str, str]) -> tuple[LineageRun | None, LineageRun | None]:
    """The parent and the root, or None.

    `OPENLINEAGE_CONTEXT` (`{"parent": {"run": …, "job": …, "root": …}}`), as openlineage-dbt reads it, comes before
    `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID`, each `namespace/job/run id`. A text that can't be read, or
    has no UUID for a run's id, counts as none.
    """
    context = environ.get(settings.OPENLINEAGE_CONTEXT)
    if context:
        try:
            parent = msgspec.json.decode(context, type=_Context).parent
        except msgspec.MsgspecError:
            pass  # it may hold other things than a parent
        else:
            return _run(parent), _run(parent.root) if parent.root is not None else None
    return _named(environ.get(settings.OPENLINEAGE_PARENT_ID)), _named(environ.get(settings.OPENLINEAGE_ROOT_PARENT_ID))


def _run(one: _Parent | _Root) -> LineageRun | None:
    return _checked(one.job.namespace, one.job.name, one.run.run_id)


def _named(text: str | None) -> LineageRun | None:
    parts = text.strip().rsplit("/", 2) if text else []
    return _checked(*parts) if len(parts) == 3 else None


def _checked(namespace: str, job: str, run_id: str) -> LineageRun | None:
    try:
        return LineageRun(namespace, job, str(uuid.UUID(run_id))) if namespace and job else None
    except ValueError:
        return None
