"""Every benchmark of speed in one table: `make bench`.

    python benchmarks/all.py [--out FILE.csv] [NAME...]

Exit code 1, and no CSV, where a result was wrong; 1 as well where a ratio is below its target.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from common import Rows, one_thread, report, to_csv

# Modules of this folder that have `rows()`: a new benchmark, of a GPU or of workers, is a name here.
BENCHMARKS = ("scan", "decode", "prefix_reuse", "questions", "executors", "gpu_scan")


def chosen(names: list[str]) -> dict[str, Rows]:
    """The benchmarks of those names, or all."""
    for name in names:
        if name not in BENCHMARKS:
            raise SystemExit(f"error: no benchmark '{name}': there are {', '.join(BENCHMARKS)}")
    return {name: import_module(name).rows for name in names or BENCHMARKS}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default"
    )
    parser.add_argument("--out", type=Path, help="write the rows there as CSV")
    arguments = parser.parse_args()
    benchmarks, machine = chosen(arguments.names), one_thread()
    found = report(benchmarks, machine)
    if arguments.out is not None and not found.wrong:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(to_csv(found.rows, machine), encoding="utf-8")
        print(f"wrote {arguments.out}")
    raise SystemExit(found.code)


if __name__ == "__main__":
    main()
