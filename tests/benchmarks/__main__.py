"""`python -m tests.benchmarks`: measure, print a report in Markdown, write everything as JSON."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks.callback import measure_callback
from tests.benchmarks.cases import CASES, PLAIN, Case, Tools, clean_environment, measure
from tests.benchmarks.project import Template, existing, generated
from tests.benchmarks.report import Group, Results, environment_facts, markdown, targets

_HELP_RUNS: Final = 10
_RESULTS: Final = Path(__file__).with_name("results.json")


def main() -> None:
    """Do what the command line asks for."""
    options = _options()
    tools = Tools.of_this_interpreter(options.dbt_ol)
    chosen = [case for case in CASES if case.name in options.cases and (case.tool != "dbt-ol" or tools.dbt_ol)]
    results = Results(environment=environment_facts(), groups=[])
    with tempfile.TemporaryDirectory(prefix="spanline-benchmark-") as folder:
        work = Path(folder)
        many = [case for case in chosen if not case.few]
        few = [case for case in chosen if case.few]
        if "help" in options.cases:
            _say("help")
            results.help_seconds = list(_help_seconds(tools))
        if many or "callback" in options.cases:
            template = _prepared(_template(work / "project", options), tools)
            if "callback" in options.cases:
                _say("callback")
                results.callback = measure_callback(template.copy(work / "run"))
            if many:
                results.groups.append(_compare(_with_plain(many), template, options.repeat, tools, work))
        if few:
            small = _prepared(generated(work / "small", options.few_models), tools)
            results.groups.append(_compare(_with_plain(few), small, options.repeat, tools, work))
    results.targets = targets(results)
    options.output.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print(markdown(results))


def _options() -> argparse.Namespace:
    names = [*(case.name for case in CASES), "callback", "help"]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--models", type=int, default=1000, metavar="N", help="models of the project (%(default)s)")
    parser.add_argument("--project", type=Path, metavar="DIR", help="a project of yours in place of the generated one")
    parser.add_argument(
        "--build-options",
        default="",
        metavar="TEXT",
        help="options of its dbt build, such as '--exclude resource_type:test'",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=6,
        metavar="N",
        help="runs of each case (%(default)s, the fewest whose median has a 95 %% interval)",
    )
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--dbt-ol", type=Path, metavar="PATH", help="the dbt-ol to compare with, beside its own dbt")
    parser.add_argument(
        "--few-models", type=int, default=30, metavar="N", help="models where a case takes minutes (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE", help="where the JSON goes")
    return parser.parse_args()


def _with_plain(cases: Sequence[Case]) -> list[Case]:
    return [PLAIN, *(case for case in cases if case is not PLAIN)]


def _template(path: Path, options: argparse.Namespace) -> Template:
    if options.project is None:
        return generated(path, options.models)
    return existing(path, options.project, shlex.split(options.build_options))


def _prepared(template: Template, tools: Tools) -> Template:
    _say("parsing")
    template.prepare(tools.dbt, clean_environment())
    _say(f"a project of {template.models} models, {template.nodes} nodes")
    return template


def _compare(cases: Sequence[Case], template: Template, repeat: int, tools: Tools, work: Path) -> Group:
    """Every case once in each repetition, which begins with another case each time; before that, one run unmeasured."""
    group = Group(template.models, template.nodes)
    _say("warming up")
    measure(PLAIN, 0, template, tools, work)
    for repetition in range(repeat):
        first = repetition % len(cases)
        for case in (*cases[first:], *cases[:first]):
            found = measure(case, repetition, template, tools, work)
            _say(f"{repetition + 1}/{repeat} {case.name}: {found.process.wall:.2f} s")
            group.measurements.append(found)
    return group


def _help_seconds(tools: Tools) -> Iterator[float]:
    for _ in range(_HELP_RUNS):
        start = time.perf_counter()
        subprocess.run([tools.spanline, "--help"], stdout=subprocess.DEVNULL, check=True)
        yield time.perf_counter() - start


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
