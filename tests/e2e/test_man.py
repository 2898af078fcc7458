#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the man pages name exactly the commands and options that the programs have.

usage: test_man.py RAMET RAMETD MAN_DIRECTORY
"""
import os
import re
import subprocess
import sys


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def page(path):
    """The text of a page without its fonts and escapes."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return re.sub(r"\\f[BIR]", "", text).replace("\\-", "-")


def section(text, name):
    return text.split(f"\n.SH {name}\n", 1)[1].split("\n.SH ", 1)[0]


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def differences(what, program, manual):
    return ([f"{what}: {x} is not in the man page" for x in sorted(program - manual)] +
            [f"{what}: {x} is only in the man page" for x in sorted(manual - program)])


def check_ramet(ramet, text):
    commands = set(re.findall(r"^  ([a-z]+) ", run(ramet, "help"), re.MULTILINE))
    common = options(section(text, "COMMON OPTIONS"))
    described = {}
    for paragraph in re.split(r"^\.TP\n", section(text, "COMMANDS"), flags=re.MULTILINE)[1:]:
        head = paragraph.split("\n", 1)[0].removeprefix(".B ")
        for one in head.split(", "):
            described[one.split()[0]] = options(head)
    problems = differences("ramet", commands, set(described))
    for command in sorted(commands & set(described)):
        has = set(re.findall(r"^  (?:-\w, |    )(--[a-z-]+)", run(ramet, "help", command), re.MULTILINE))
        problems += differences(f"ramet {command}", has, described[command] | common)
    return problems


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    ramet, rametd, man = sys.argv[1:]
    problems = check_ramet(ramet, page(os.path.join(man, "ramet.1")))
    heads = re.findall(r"^\.TP\n(.*)$", section(page(os.path.join(man, "rametd.8")), "OPTIONS"), re.MULTILINE)
    problems += differences("rametd", set(re.findall(r"^  (--[a-z-]+)", run(rametd, "--help"), re.MULTILINE)),
                            options("\n".join(heads)))
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
