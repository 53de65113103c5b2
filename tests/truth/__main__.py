"""`python -m tests.truth`: collect what databases say, and judge by it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.truth import answers, duck, judge, postgres
from tests.truth.answers import Answer

_SECONDS_OF_A_FILE: Final = 60
_MEMORY: Final = 8 << 30
_SHOWN: Final = 100


def main() -> None:
    """Do what the command line asks for."""
    options = _options()
    if options.command == "judge":
        _judge(options.files, options.show, options.wide)
    else:
        _collect(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect", help="ask a database, and write down its answers")
    collect.add_argument("corpus", choices=("duckdb", "postgres", "tpc", "clickbench"))
    collect.add_argument("checkout", type=lambda path: Path(path).resolve())
    collect.add_argument(
        "data", type=lambda path: Path(path).resolve(), nargs="*", help="tpc: databases of TPC-H, TPC-DS"
    )
    collect.add_argument("--into", type=lambda path: Path(path).resolve(), required=True)
    collect.add_argument("--every", type=int, default=1, help="take only every so many files")
    collect.add_argument("--seconds", type=float, default=1.0, help="for the influences on one query; 0: names only")
    judged = commands.add_parser("judge", help="hold the analysis against the answers")
    judged.add_argument("files", type=Path, nargs="+")
    judged.add_argument("--show", choices=("lie", "open", "missed", "slow"), help="list what is wrong")
    judged.add_argument("--wide", type=int, default=300, help="characters of SQL that are shown")
    return parser.parse_args()


# --- collect ----------------------------------------------------------------------------------------------------------


def _collect(options: argparse.Namespace) -> None:
    os.chdir(options.checkout)  # the tests read files by paths from there
    if options.corpus == "duckdb":
        for path in sorted((options.checkout / "test" / "sql").rglob("*.test"))[:: options.every]:
            _apart(options.into, duck.of_tests, path, options.seconds)
    elif options.corpus == "tpc":
        for folder, data in zip(("tpch/dbgen", "tpcds/dsdgen"), options.data, strict=True):
            for path in sorted((options.checkout / "extension" / folder / "queries").glob("*.sql")):
                _apart(options.into, duck.of_files, [path], data, options.seconds)
    elif options.corpus == "clickbench":
        _clickbench(options)
    else:
        _postgres(options)


def _clickbench(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "hits.duckdb"
        database = duck.Database(data)
        database.run((options.checkout / "duckdb" / "create.sql").read_text())
        database.fill("hits", rows=2_000)
        database.close()
        _apart(options.into, duck.of_files, [options.checkout / "duckdb" / "queries.sql"], data, options.seconds)


def _postgres(options: argparse.Namespace) -> None:
    import pgserver

    found = sorted(options.checkout.rglob("*regress*/**/*.sql"))
    before = next((path for path in found if path.name == "test_setup.sql"), None)
    with tempfile.TemporaryDirectory() as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            for place, path in enumerate(found[:: options.every]):
                server.psql(f"create database truth{place};")
                uri = server.get_uri(database=f"truth{place}")
                _apart(options.into, postgres.of_script, path, uri, before)
        finally:
            server.cleanup()


def _apart(into: Path, of: Callable[..., Iterator[Answer]], *arguments: object) -> None:
    """Write the answers of a file in a process of its own: a database may crash, hang, or eat the memory."""
    process = multiprocessing.get_context("fork").Process(target=_write, args=(into, of, *arguments))
    process.start()
    process.join(_SECONDS_OF_A_FILE)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode:
        print(f"{arguments[0]}: ended with {process.exitcode}", file=sys.stderr)


def _write(into: Path, of: Callable[..., Iterator[Answer]], *arguments: object) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for answer in of(*arguments):
        answers.write(into, answer)


# --- judge ------------------------------------------------------------------------------------------------------------


def _judge(files: list[Path], show: str | None, wide: int) -> None:
    rows = []
    for path in files:
        verdicts = []
        whys: Counter[str] = Counter()
        for answer, verdict in judge.judged(answers.read(path)):
            verdicts.append(verdict)
            if verdict.kind == "open":
                whys[verdict.why[:80]] += 1
            wrong = verdict.missed if show == "missed" else verdict.kind == show
            if wrong or (show == "slow" and verdict.seconds > judge.SLOW):
                why = ", ".join(verdict.missed) if show == "missed" else verdict.why
                print(f"{answer.source}: {why[:wide]}\n    {' '.join(answer.sql.split())[:wide]}")
        rows.append((path.stem, judge.totals(verdicts)))
        if show == "open":
            print(*(f"{count:6} {why}" for why, count in whys.most_common(_SHOWN)), sep="\n")
    print(*judge.table(rows), sep="\n")


if __name__ == "__main__":
    main()
