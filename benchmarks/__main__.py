"""`make bench`: every benchmark in one run, a table on the screen, and the numbers in benchmarks/out/latest.json.

`python -m benchmarks flow latency` runs some of them. Machines are noisy: compare numbers of one run.
"""

import importlib
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

NAMES = ("journal", "decoders", "ingest", "flow", "engine", "backtest", "e2e", "latency", "recovery", "worlds")
OUT = Path(__file__).parent / "out" / "latest.json"


def main(chosen: list[str]) -> int:
    unknown = set(chosen) - set(NAMES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(machine())
    measured: dict[str, dict[str, float | str]] = {}
    for name in chosen or NAMES:
        began = time.monotonic()
        results = importlib.import_module(f"benchmarks.{name}").run()
        for key, (value, unit) in results.items():
            measured[key] = {"value": round(value, 3), "unit": unit}
            print(f"{key:56} {value:14,.2f} {unit}", flush=True)
        print(f"  ({name}: {time.monotonic() - began:.0f} s)", file=sys.stderr)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(measured, indent=1) + "\n")
    return 0


def machine() -> str:
    """Return what the numbers depend on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), platform.machine()
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("bytewax", "paho-mqtt", "numpy", "influxdb-client"))
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}; {packages}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
