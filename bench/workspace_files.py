#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What one operation on a workspace's files costs in the library, without the mount: `tools/dev bench
workspace_files [--quick] [--json FILE]`. One directory of 20,000 files, or 2,000."""
import json
import statistics
import subprocess
import sys
import tempfile

from report import arguments, finish, print_series, promise, series

BARS = [("create", "<=", 5), ("stat", "<=", 1), ("write 4 KiB", "<=", 3), ("overwrite 4 KiB", "<=", 3), ("list", "<=", 5),
        ("write 1 MiB", ">=", 2)]


def main():
    options = arguments(__doc__).parse_args()
    files, rounds = (2000, 3) if options.quick else (20000, 9)
    with tempfile.TemporaryDirectory(prefix="ramet-bench-") as directory:
        out = subprocess.run([f"{options.bin}/ramet-workspace-files-bench", directory, str(files), str(rounds)],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
    results = [series(r["name"], r["unit"], r["samples"]) for r in map(json.loads, out.splitlines())]
    print_series(results)
    median = {r["name"]: statistics.median(r["samples"]) for r in results}
    return finish("workspace_files", options.json, results, [promise(name, median[name], op, bar) for name, op, bar in BARS])


if __name__ == "__main__":
    sys.exit(main())
