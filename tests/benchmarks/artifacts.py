"""What large artifacts cost: `python -m tests.benchmarks.artifacts [--models 10000] [--repeat 6]`.

dbt parses a generated project, of whose manifest each node is written many times under other names, until there are as
many models as are asked for. Then, in turn, each in a process of its own: `json.load`, our `load`, and cutting and
compressing it for a store, without and with a value to be found in every node.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks.cases import Tools, clean_environment
from tests.benchmarks.project import generated

_PARSED: Final = 500
_SAMPLE_SECONDS: Final = 0.002
_MODES: Final = ("json.load", "load", "store, gzip", "store, zstd", "store, gzip, values found")


def main() -> None:
    """Print what each took, and how the two ways to load compare."""
    options = _options()
    if options.child:
        _child(options.child, options.manifest)
        return
    with tempfile.TemporaryDirectory(prefix="spanline-benchmark-", dir="/var/tmp") as folder:
        path = Path(folder) / "manifest.json"
        models, nodes = _write(path, Path(folder) / "project", options.models)
        os.sync()
        print(f"{models} models, {nodes} nodes, {path.stat().st_size / 1e6:.0f} MB")
        _compare(path, options.repeat)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.artifacts", description=__doc__)
    parser.add_argument("--models", type=int, default=10_000, metavar="N", help="models of the project (%(default)s)")
    parser.add_argument("--repeat", type=int, default=6, metavar="N", help="runs of each (%(default)s)")
    parser.add_argument("--child", choices=_MODES, help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _write(path: Path, project: Path, models: int) -> tuple[int, int]:
    template = generated(project, min(models, _PARSED))
    template.prepare(Tools.of_this_interpreter(None).dbt, clean_environment())
    manifest = json.loads((project / "target" / "manifest.json").read_text())
    sections = {name: json.dumps(manifest[name]) for name in ("nodes", "parent_map", "child_map")}
    for name, text in sections.items():
        manifest[name] = {}
        for number in range(-(-models // _PARSED)):
            manifest[name].update(json.loads(text.replace("model_", f"model_{number:03}_")))
    path.write_text(json.dumps(manifest))
    kinds = [node["resource_type"] for node in manifest["nodes"].values()]
    return kinds.count("model"), len(kinds)


def _compare(path: Path, repeat: int) -> None:
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in _MODES}
    for repetition in range(repeat):
        first = repetition % len(_MODES)
        for mode in (*_MODES[first:], *_MODES[:first]):
            found[mode].append(_measure(mode, path))
    for mode, runs in found.items():
        median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        smaller = f"; {median['smaller']:.1%} smaller" if median["smaller"] else ""
        print(
            f"{mode:28} {median['wall']:6.2f} s, {median['cpu']:6.2f} s of CPU; "
            f"at most {median['own']:4.0f} MB of its own, {median['peak']:4.0f} MB with mapped files{smaller}"
        )
    for name in ("wall", "cpu", "own", "peak"):
        ratios = [ours[name] / theirs[name] for ours, theirs in zip(found["load"], found["json.load"], strict=True)]
        print(f"load / json.load, {name:5} {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")


def _measure(mode: str, path: Path) -> dict[str, float]:
    """Run a child; what it had in memory before it began is taken off."""
    command = [sys.executable, "-m", "tests.benchmarks.artifacts", "--child", mode, "--manifest", str(path)]
    own = peak = 0.0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()  # it has imported all that it needs
        before = _memory(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        while child.poll() is None:
            now = _memory(child.pid)
            own, peak = max(own, now[0]), max(peak, now[1])
            time.sleep(_SAMPLE_SECONDS)
        said = json.loads(child.stdout.read())
    return {**said, "own": own - before[0], "peak": peak - before[1]}


def _memory(pid: int) -> tuple[float, float]:
    """Anonymous memory, and all that is resident, in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    pairs = (line.partition(":") for line in lines if line.endswith("kB"))
    sizes = {name: int(rest.split()[0]) / 1024 for name, _, rest in pairs}
    return sizes.get("RssAnon", 0.0), sizes.get("VmRSS", 0.0)


def _child(mode: str, path: Path) -> None:
    work = _work(mode, path)
    print(flush=True)
    sys.stdin.readline()
    started, used = time.perf_counter(), time.process_time()
    smaller = work()
    print(json.dumps({"wall": time.perf_counter() - started, "cpu": time.process_time() - used, "smaller": smaller}))


def _work(mode: str, path: Path) -> Callable[[], float]:
    if mode == "json.load":

        def load_all() -> float:
            with path.open() as file:
                return 0.0 * len(json.load(file))

        return load_all
    if mode == "load":
        from spanline.artifacts import Loaded, load

        def load_parts() -> float:
            outcome = load("manifest", path)
            assert isinstance(outcome, Loaded)
            return 0.0 * len(outcome.content.nodes)

        return load_parts
    return _storing(mode, path)


def _storing(mode: str, path: Path) -> Callable[[], float]:
    from spanline.artifacts.redact import Cutter, Values
    from spanline.artifacts.stage import compress, mapped
    from spanline.home.storage import Redaction

    texts = {"env_vars": ["a-token-that-is-nowhere"], "vars": ["model_000_" if "found" in mode else "nowhere-either"]}
    codec = "zstd" if "zstd" in mode else "gzip"

    def store() -> float:
        cutter = Cutter(Redaction(), Values(secrets=texts))
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            stored = compress(Path(folder), path.name, codec, cutter.artifact(path.name, mapped(path)))
        return 1 - stored.stored / stored.size

    return store


if __name__ == "__main__":
    main()
