#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: every example in README.md and docs/api.md works as printed, against a daemon of its own, and leaves nothing.

usage: test_docs.py BIN_DIR GUEST_DIR
"""
import os
import subprocess
import sys

import daemon as d

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")


def run(vm, place, document):
    runner = [sys.executable, os.path.join(HERE, "run_doc_examples.py"), "--bin", vm.bin, "--dir", place]
    return subprocess.run([*runner, os.path.join(ROOT, document)], env=vm.env).returncode == 0


def main():
    check = d.Checks()
    bin_dir, guest = d.arguments()
    vm = d.Daemon(bin_dir, guest)
    place = os.path.join(vm.top, "here")
    os.makedirs(os.path.join(place, ".cache"))
    os.symlink(vm.guest, os.path.join(place, ".cache", "guest"))
    try:
        check(run(vm, place, "README.md"), "README.md")
    finally:
        vm.finish(check)
    vm = d.Daemon(bin_dir, guest).up()
    try:
        vm.import_guest()
        os.mkdir(os.path.join(vm.top, "here"))
        check(run(vm, os.path.join(vm.top, "here"), "docs/api.md"), "docs/api.md")
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
