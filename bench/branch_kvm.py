# SPDX-License-Identifier: Apache-2.0
"""The embedder's section of bench/branch.py: branches within one process, with a VM on /dev/kvm each (branch_kvm.c)."""
import os
import tempfile

from report import promise
from scale import Tool


def measure(args):
    samples, branches, lives = (100, 200, 10) if args.quick else (400, 1000, 40)
    tool = Tool(os.path.join(args.bin, "ramet-branch-bench"))
    with tempfile.TemporaryDirectory(prefix="ramet-branch-") as where:
        tool.run("branch to first exit, beside a bare VM", "first", where + "/store", samples)
        tool.run(f"{branches} branches at once", "many", where + "/store", branches)
        tool.run("snapshots and rollbacks", "dirty", where + "/store", lives)
    results = tool.series()
    by = {r["name"]: r for r in results}
    ours, bare = by["first.exit"], by["first.exit.bare"]
    idle, idle_bare = by["many.idle.machine"]["p50"], by["many.idle.bare.machine"]["p50"]
    return results, [
        promise("branch to first exit, p50 / bare", ours["p50"] / bare["p50"], "<=", 1.3),
        promise("branch to first exit, p99 / bare", ours["p99"] / bare["p99"], "<=", 1.5),
        promise("memory of an idle branch in its process, KB", by["many.idle.process"]["p50"], "<=", 265),
        promise("memory of an idle branch, beyond its VM's, KB", idle - idle_bare, "<=", 265),
        promise("many branches / as many bare VMs, time", by["many.total"]["p50"] / by["many.total.bare"]["p50"], "<=", 1.3),
    ]
