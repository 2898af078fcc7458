# SPDX-License-Identifier: Apache-2.0
"""What every bench shares: its command line, series, promises, the JSON report and the exit status."""
import argparse
import json
import os
import platform
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments(description):
    """The parser of a bench; it may add options of its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("guest", nargs="?")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    return parser


def series(name, unit, samples):
    ordered = sorted(samples)
    return {"name": name, "unit": unit, "n": len(samples), "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], "samples": samples}


def promise(name, value, op, bar):
    return {"name": name, "value": value, "bar": bar, "op": op, "ok": value <= bar if op == "<=" else value >= bar}


def number(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_series(results):
    width = max([20] + [len(r["name"]) + 2 for r in results])
    print(f"{'':<{width}}{'n':>7}{'p50':>14}{'p99':>14}")
    for r in results:
        print(f"{r['name']:<{width}}{r['n']:>7}{number(r['p50']):>14}{number(r['p99']):>14} {r['unit']}")


def finish(bench, path, results, promises, seed=0):
    """Writes the report, prints the promises, gives the exit status: 1 when one is missed."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]  # or "-dirty" after it
    commit = subprocess.run(describe, cwd=HERE, capture_output=True, text=True).stdout.strip()
    report = {"bench": bench, "commit": commit, "machine": {"kernel": platform.release(), "cpus": os.cpu_count()},
              "seed": seed, "results": results, "promises": promises}
    if path:
        with open(path, "w") as file:
            json.dump(report, file, indent=1)
    for p in promises:
        print(f"{'ok  ' if p['ok'] else 'MISS'} {p['name']}: {p['value']:.3g} (bar {p['op']} {p['bar']})")
    return 0 if all(p["ok"] for p in promises) else 1
