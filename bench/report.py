# SPDX-License-Identifier: Apache-2.0
"""What the benches share: the command line, series of samples, promises, the JSON and the table."""
import argparse
import json
import os
import platform
import statistics
import subprocess


def arguments(doc):
    """BIN and GUEST as tools/dev gives them, --quick and --json; a bench may add its own."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("bin")
    parser.add_argument("guest", nargs="?")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    return parser


def series(name, unit, samples):
    ordered = sorted(samples)
    return {"name": name, "unit": unit, "n": len(samples), "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], "samples": samples}


def promise(name, value, bar, op="<="):
    return {"name": name, "value": value, "bar": bar, "op": op, "ok": value <= bar if op == "<=" else value >= bar}


def number(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def finish(args, bench, results, promises, seed=0):
    """Writes the JSON, prints the table; the exit status: 1 when a promise was missed."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"bench": bench, "commit": commit,
                       "machine": {"kernel": platform.release(), "cpus": os.cpu_count()},
                       "seed": seed, "results": results, "promises": promises}, file, indent=1)
    width = max([20] + [len(r["name"]) + 2 for r in results])
    print(f"{'':<{width}}{'n':>7}{'p50':>14}{'p99':>14}")
    for r in results:
        print(f"{r['name']:<{width}}{r['n']:>7}{number(r['p50']):>14}{number(r['p99']):>14} {r['unit']}")
    for p in promises:
        print(f"{'ok  ' if p['ok'] else 'MISS'} {p['name']}: {p['value']:.3g} (bar {p['op']} {p['bar']})")
    return 0 if all(p["ok"] for p in promises) else 1
