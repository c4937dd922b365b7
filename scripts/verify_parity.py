#!/usr/bin/env python
"""Compare this package with golden values: one line per case of a folder, exit 1 if any fails or is not understood.

    python scripts/verify_parity.py ../shared/goldens
    python scripts/verify_parity.py ../shared/goldens --only 'enc_*' 'e2e_*'

Every entry of the folder gets a line: PASS or FAIL for a case, SUPPORT for what is no case (and why), UNKNOWN for
what no module of `parity` understands.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import sys
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from midms.programs import warn

if TYPE_CHECKING:
    from parity.cases import CaseFunction, Check

AREAS = ("matching", "networks", "pipeline", "training", "oig", "data", "evaluation")
SUPPORT = {
    "README*": "description of the folder",
    "golden_io.py": "another reader of these files",
    "check_report.json": "errors that another implementation had on these files",
    "tiny_sd": "weights that the cases beside it load",
}


def collect_cases() -> dict[str, CaseFunction]:
    """File name pattern -> function, from every module of `parity`."""
    cases: dict[str, CaseFunction] = {}
    for area in AREAS:
        name = f"parity.{area}"
        if importlib.util.find_spec(name) is not None:
            cases.update(importlib.import_module(name).CASES)
    return cases


def function_for(name: str, cases: Mapping[str, CaseFunction]) -> CaseFunction | None:
    """The function of the longest, and so most specific, matching pattern."""
    fitting = sorted((pattern for pattern in cases if fnmatch(name, pattern)), key=len)
    return cases[fitting[-1]] if fitting else None


def _nan_first(error: float) -> tuple[bool, float]:
    """Sort key that puts NaN above every number, because NaN fails every tolerance."""
    return math.isnan(error), error


def describe(checks: Sequence[Check]) -> str:
    """Largest errors of a case, the check nearest to (or furthest over) its tolerance, and all failed checks."""
    worst = max(checks, key=lambda check: _nan_first(check.error / max(check.tolerance, 1e-30)))
    line = (
        f"max abs {max((check.max_abs for check in checks), key=_nan_first):.2e}, "
        f"max rel {max((check.max_rel for check in checks), key=_nan_first):.2e}, "
        f"closest {worst.name} {worst.error:.2e} of tolerance {worst.tolerance:.2e}, {len(checks)} checks"
    )
    failed = [f"{check.name} {check.error:.2e} > {check.tolerance:.2e}" for check in checks if not check.passed]
    return f"{line}; FAILED: {', '.join(failed)}" if failed else line


def run_case(path: Path, function: CaseFunction) -> tuple[bool, str]:
    """Whether a case passed, and the rest of its line."""
    started = time.perf_counter()
    try:
        checks = function(path)
    except Exception as error:  # an error in one case must not hide the others
        return False, f"{type(error).__name__}: {' '.join(str(error).split())}"
    if not checks:
        return False, "the case function compared nothing"
    passed = all(check.passed for check in checks)
    return passed, f"{describe(checks)}, {time.perf_counter() - started:.1f} s"


def verify(folder: Path, only: Sequence[str] | None = None) -> dict[str, str]:
    """Run every case of `folder`, print a line for each entry, and return its verdicts (name -> first word)."""
    cases = collect_cases()
    verdicts: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if only and not any(fnmatch(path.name, pattern) for pattern in only):
            continue
        function = function_for(path.name, cases) if path.is_file() else None
        reasons = [reason for pattern, reason in SUPPORT.items() if fnmatch(path.name, pattern)]
        if function is not None:
            passed, rest = run_case(path, function)
            verdict = "PASS" if passed else "FAIL"
        elif reasons:
            verdict, rest = "SUPPORT", reasons[0]
        else:
            verdict, rest = "UNKNOWN", "no module of parity understands this"
        verdicts[path.name] = verdict
        print(f"{verdict:<8}{path.name:<36} {rest}", flush=True)
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of golden cases")
    parser.add_argument(
        "--only", nargs="+", metavar="PATTERN", help="run only files whose name matches, for example 'enc_*'"
    )
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        warn(f"verify_parity.py: {options.folder}: no such folder")
        return 2
    verdicts = list(verify(options.folder, options.only).values())
    if not verdicts:
        warn(f"verify_parity.py: no golden case in {options.folder}")
        return 2
    count = {verdict: verdicts.count(verdict) for verdict in ("PASS", "FAIL", "UNKNOWN", "SUPPORT")}
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    return 1 if count["FAIL"] or count["UNKNOWN"] else 0


if __name__ == "__main__":
    sys.exit(main())
