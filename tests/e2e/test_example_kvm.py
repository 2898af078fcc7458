#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: branches, nested branches, rollbacks and a stored snapshot of a real vCPU continue at the instruction after the
snapshot, apart from each other; examples/kvm checks it in registers and memory. Usage: test_example_kvm.py BIN"""
import subprocess
import sys
import tempfile


def main(bin_dir):
    with tempfile.TemporaryDirectory(prefix="ramet-example-") as where:
        run = subprocess.run([bin_dir + "/example-kvm", where + "/store", "12"], stdout=subprocess.PIPE, text=True)
    print(run.stdout, end="")
    if run.returncode == 0 and run.stdout.count("12 branches continued") != 4:
        print("it did not run its branches four times", file=sys.stderr)
        return 1
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
