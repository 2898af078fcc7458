#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rejects an #include that points up: tools -> api -> {fuse, cow} -> store. Usage: layering.py ROOT"""
import pathlib
import re
import sys

BELOW = {"store": {"store"}, "cow": {"cow", "store"}, "fuse": {"fuse", "cow", "store"},
         "api": {"api", "fuse", "cow", "store"}, "tools": {"tools", "api", "store"}}
# fuse sees images and overlays through cow; tools see only the client, the service and store/base.


def main(root):
    root = pathlib.Path(root)
    home = {}
    for layer in BELOW:
        for header in (root / layer).rglob("*.h"):
            home.setdefault(header.relative_to(root / layer).as_posix(), set()).add(layer)
            home.setdefault(header.name, set()).add(layer)
    wrong = []
    for layer, allowed in BELOW.items():
        for source in [*(root / layer).rglob("*.c"), *(root / layer).rglob("*.h")]:
            for line, text in enumerate(source.read_text().splitlines(), 1):
                match = re.match(r'\s*#\s*include\s+"([^"]+)"', text)
                layers = home.get(match.group(1)) if match else None
                if layers and not layers & allowed:
                    wrong.append(f"{source.relative_to(root)}:{line}: {layer} may not include {match.group(1)}")
    print("\n".join(wrong) or "layering: every include points down")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
