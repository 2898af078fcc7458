#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a collection gives back and what it costs the others: `tools/dev bench gc [--quick] [--json FILE]`.

Nine of ten of 60 snapshots that share much are removed and collected while two threads read random 4 KiB of the others
and one stores new snapshots. Read latencies during the collection stand beside those of the same load before it, space
returned beside what the removed snapshots, stored alone, take (gc_load.c). Each round has stores of its own."""
import os
import sys
import tempfile

from report import arguments, finish, print_series, promise
from scale import Tool


def measure(args):
    rounds, snapshots, pages, seconds = (1, 20, 4096, 3) if args.quick else (3, 60, 16384, 10)
    tool = Tool(os.path.join(args.bin, "ramet-scale-bench"))
    for i in range(rounds):
        with tempfile.TemporaryDirectory(prefix="ramet-gc-") as where:
            tool.run(f"round {i + 1} of {rounds}", "gc-load", where + "/store", where + "/fresh", snapshots, pages, seconds)
    ratios = [a / b for a, b in zip(tool.results["returned"][1], tool.results["unshared"][1])]
    tool.results["returned/unshared"] = ("", ratios)
    results = tool.series()
    by = {r["name"]: r for r in results}
    return results, [
        promise("space returned / unshared by the removed", min(ratios), ">=", 0.95),
        promise("read p99 during a collection / before", by["read.during"]["p99"] / by["read.before"]["p99"], "<=", 2),
    ]


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    results, promises = measure(options)
    print_series(results)
    sys.exit(finish("gc", options.json, results, promises))
