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
    p50 = {r["name"]: r["p50"] for r in results}
    p99 = {r["name"]: r["p99"] for r in results}
    return results, [
        promise("branch to first exit, p50 / bare", p50["first.exit"] / p50["first.exit.bare"], "<=", 1.3),
        promise("branch to first exit, p99 / bare", p99["first.exit"] / p99["first.exit.bare"], "<=", 1.5),
        promise("many branches / as many bare VMs, time", p50["many.total"] / p50["many.bare.total"], "<=", 1.3),
        promise("memory of an idle branch in its process, KB", p50["many.idle.process"], "<=", 265),
        promise("memory of an idle branch beside a bare VM's, KB",
                p50["many.idle.machine"] - p50["many.bare.idle.machine"], "<=", 265),
    ]
