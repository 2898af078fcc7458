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
    parser.add_argument("guest")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    return parser


def series(name, unit, samples):
    ordered = sorted(samples)
    return {"name": name, "unit": unit, "n": len(samples), "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], "samples": samples}


def promise(name, value, op, bar):
    return {"name": name, "value": value, "bar": bar, "op": op, "ok": value <= bar if op == "<=" else value >= bar}


def print_series(results):
    print(f"{'':<20}{'n':>4}{'p50':>14}{'p99':>14}")
    for r in results:
        print(f"{r['name']:<20}{r['n']:>4}{r['p50']:>14.0f}{r['p99']:>14.0f} {r['unit']}")


def finish(bench, path, results, promises, seed=0):
    """Writes the report, prints the promises, gives the exit status: 1 when one is missed."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    report = {"bench": bench, "commit": commit, "machine": {"kernel": platform.release(), "cpus": os.cpu_count()},
              "seed": seed, "results": results, "promises": promises}
    if path:
        with open(path, "w") as file:
            json.dump(report, file, indent=1)
    for p in promises:
        print(f"{'ok  ' if p['ok'] else 'MISS'} {p['name']}: {p['value']:.2f} (bar {p['op']} {p['bar']})")
    return 0 if all(p["ok"] for p in promises) else 1
