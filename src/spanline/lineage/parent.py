"""Who started a run, as the environment says it to any OpenLineage producer."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


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


def lineage_parent(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The parent and the root, each as `namespace/job/run id`, or None.

    `OPENLINEAGE_CONTEXT` (`{"parent": {"run": …, "job": …, "root": …}}`), as openlineage-dbt reads it, comes before
    `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID`. A text that can't be read counts as none.
    """
    context = environ.get("OPENLINEAGE_CONTEXT")
    if context:
        try:
            parent = msgspec.json.decode(context, type=_Context).parent
        except msgspec.MsgspecError:
            pass  # it may hold other things than a parent
        else:
            return _joined(parent), _joined(parent.root) if parent.root is not None else None
    return environ.get("OPENLINEAGE_PARENT_ID") or None, environ.get("OPENLINEAGE_ROOT_PARENT_ID") or None


def _joined(one: _Parent | _Root) -> str:
    return f"{one.job.namespace}/{one.job.name}/{one.run.run_id}"
