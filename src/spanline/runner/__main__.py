"""Start the runner: load this folder as a package, by its path, and hand over to `main`.

Run as `python .../spanline/runner CONTROL_FD`. The folder is not put on `sys.path`, where its module names could
hide somebody else's.
"""

import importlib.util
import sys
from pathlib import Path

PACKAGE = "spanline_runner"


def _load_package() -> None:
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    spec = importlib.util.spec_from_file_location(PACKAGE, here / "__init__.py", submodule_search_locations=[str(here)])
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load the runner from {here}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _load_package()
    sys.exit(importlib.import_module(f"{PACKAGE}.main").main(sys.argv[1:]))
