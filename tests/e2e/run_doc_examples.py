#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: every example in the documentation works as printed.

usage: run_doc_examples.py [--bin DIR] [--socket PATH] [--dir DIR] [--timeout S] [--list] FILE.md...

Runs the blocks fenced as ```sh test, in order and in one bash, so that variables and
functions carry over; in a scratch directory (or --dir), with DIR in front of PATH and RAMET_SOCKET
set to PATH, against a daemon that already runs. A block fails when any of its commands
does. A ```json block right after one is its expected output: every member shown must be
there, with more allowed; of a list the elements shown must come first; numbers need only
be numbers of that kind; strings must be equal, unless they hold an ellipsis (…), which
stands for any text. Other blocks are not run.
"""
import argparse
import json
import os
import re
import select
import shlex
import subprocess
import sys
import tempfile
import time

FENCE = re.compile(r"^```(.*)$")


class Block:
    def __init__(self, file, line, info):
        self.file, self.line, self.info, self.text = file, line, info, ""

    def __str__(self):
        return f"{self.file}:{self.line}"


def blocks(path):
    """Every fenced block of a file; one that directly follows another, blank lines aside, has it as `after`."""
    found, current, previous = [], None, None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fence = FENCE.match(line.rstrip("\n"))
            if fence and current is None:
                current = Block(path, number, fence.group(1).strip())
                current.after = previous
            elif fence:
                found.append(current)
                previous, current = current, None
            elif current is not None:
                current.text += line
            elif line.strip():
                previous = None
    if current is not None:
        sys.exit(f"{current}: fence is never closed")
    return found


def examples(paths):
    """Pairs of an example and its expected output, or None."""
    found = []
    for path in paths:
        for block in blocks(path):
            if block.info == "sh test":
                found.append([block, None])
            elif block.info == "json" and block.after and found and block.after is found[-1][0]:
                found[-1][1] = block
    return found


def mismatch(expected, actual, where="answer"):
    """Why `actual` does not contain `expected`, or None."""
    if isinstance(expected, bool) or expected is None or type(expected) is not type(actual):
        return None if expected is actual else f"{where}: {actual!r} instead of {expected!r}"
    if isinstance(expected, str):
        pattern = ".*".join(map(re.escape, expected.split("…")))
        return None if re.fullmatch(pattern, actual, re.DOTALL) else f"{where}: {actual!r} instead of {expected!r}"
    if isinstance(expected, dict):
        for key, value in expected.items():
            if key not in actual:
                return f"{where}: no member {key!r}"
            if problem := mismatch(value, actual[key], f"{where}.{key}"):
                return problem
    if isinstance(expected, list):
        if len(actual) < len(expected):
            return f"{where}: {len(actual)} elements, fewer than {len(expected)}"
        for i, value in enumerate(expected):
            if problem := mismatch(value, actual[i], f"{where}[{i}]"):
                return problem
    return None


def answers(text):
    """The JSON values in a text, one after the other."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


class Shell:
    """One bash that sources scripts; a command that fails ends it."""

    def __init__(self, directory, env):
        self.directory = directory
        self.number = 0
        self.bash = subprocess.Popen(["bash", "-eu", "-o", "pipefail"], cwd=directory, env=env, text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, text, timeout):
        """Whether it succeeded in time, and what it printed on stdout and stderr."""
        self.number += 1
        base = os.path.join(self.directory, f".example-{self.number}")
        with open(base, "w", encoding="utf-8") as file:
            file.write(text)
        quoted = shlex.quote(base)
        self.bash.stdin.write(f". {quoted} >{quoted}.out 2>{quoted}.err </dev/null\necho done\n")
        self.bash.stdin.flush()
        ready, _, _ = select.select([self.bash.stdout], [], [], timeout)
        ok = bool(ready) and self.bash.stdout.readline() == "done\n"
        output = []
        for end in (".out", ".err"):
            with open(base + end, encoding="utf-8", errors="replace") as file:
                output.append(file.read())
        return ok, output[0], output[1] if ready else output[1] + f"(no end after {timeout} s)\n"

    def close(self):
        self.bash.stdin.close()
        self.bash.kill()
        self.bash.wait()


def check(example, expected, shell, timeout):
    started = time.monotonic()
    ok, out, err = shell.run(example.text, timeout)
    problem = None if ok else "it failed"
    if ok and expected:
        try:
            wanted, given = answers(expected.text), answers(out)
            problem = mismatch(wanted, given)
            if not problem and len(given) > len(wanted):
                problem = f"{len(given)} answers, more than {len(wanted)}"
        except json.JSONDecodeError as error:
            problem = f"{expected}: no JSON: {error}"
    print(f"{'ok  ' if problem is None else 'FAIL'} {example} ({time.monotonic() - started:.1f} s)", flush=True)
    if problem:
        print(f"--- {problem}\n{example.text}--- stdout\n{out}--- stderr\n{err}")
    return problem is None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin")
    parser.add_argument("--socket")
    parser.add_argument("--dir", help="run there instead of in a scratch directory")
    parser.add_argument("--timeout", type=float, default=300, help="seconds an example may take")
    parser.add_argument("--list", action="store_true", help="only name the examples")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    found = examples(args.files)
    if args.list or not found:
        print(*(example for example, _ in found), sep="\n")
        sys.exit(0 if found else "no examples found")
    env = dict(os.environ)
    if args.bin:
        env["PATH"] = os.path.abspath(args.bin) + os.pathsep + env["PATH"]
    if args.socket:
        env["RAMET_SOCKET"] = os.path.abspath(args.socket)
    with tempfile.TemporaryDirectory(prefix="ramet-examples-") as scratch:
        shell = Shell(args.dir or scratch, env)
        try:
            failed = next((e for e, expected in found if not check(e, expected, shell, args.timeout)), None)
        finally:
            shell.close()
    print(f"stopped at {failed}" if failed else f"{len(found)} examples ok")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
