#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a branch costs beside the limit of the machine: `tools/dev bench branch [--only SECTION] [--quick] [--json FILE]
[--plots DIR]`.

A section is a module with measure(options), which gives results and promises:
  kvm       branches of a resident memory within one process, with a VM on /dev/kvm each (branch_kvm.py)
  live      the pause of a running Debian guest, whatever is dirty, and forks one after another (branch_live.py)
  children  children of a fork of a Debian guest: until they run, until they answer, memory each (branch_children.py)
  working_set  a restore from a cold store, with and without its working set (branch_working_set.py)
  rollback  a running sandbox back to a snapshot, beside a restore of it (branch_rollback.py)
  tree      a chain of 100 forks, and 1,000 branches, beside few (branch_tree.py)
  naive     savevm, copies of the memory file, CRIU, and the limit of a rollback, beside ours (branch_naive.py)"""
import sys

import branch_children
import branch_kvm
import branch_live
import branch_naive
import branch_rollback
import branch_tree
import branch_working_set
from report import arguments, finish, print_series

SECTIONS = {"kvm": branch_kvm, "live": branch_live, "children": branch_children, "working_set": branch_working_set,
            "rollback": branch_rollback, "tree": branch_tree, "naive": branch_naive}

if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--plots", metavar="DIR")
    options = parser.parse_args()
    results, promises = [], []
    for name, section in SECTIONS.items():
        if options.only in (None, name):
            some = section.measure(options)
            results += some[0]
            promises += some[1]
    print_series(results)
    sys.exit(finish("branch", options.json, results, promises))
