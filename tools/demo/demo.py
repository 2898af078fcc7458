#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: a Linux VM forked while it works. Usage: demo.py BIN_DIR GUEST_DIR

Every line it prints is something that happened; what it claims it checks, and it exits 1
when a check fails. It leaves nothing behind."""
import json
import os
import sys
import time

from daemon import Daemon, Failed

CHILDREN = 8


def say(text):
    print(text, flush=True)


def check(truth, claim):
    if not truth:
        raise Failed(f"not true: {claim}")
    say(f"   ✓ {claim}")


def ask(daemon, sandbox, *words):
    return json.loads(daemon.exec(sandbox, "python3", "/root/guest.py", "ask", *words))


def start_parent(daemon):
    began = time.monotonic()
    daemon.json("run", "debian", "--name", "seed")
    say(f"1. A Debian guest boots from template \"debian\": its agent answers after {time.monotonic() - began:.1f} s.")
    with open(os.path.join(os.path.dirname(__file__), "guest.py")) as file:
        daemon.put_file("seed", "/root/guest.py", file.read())
    daemon.exec("seed", "sh", "-c", "setsid python3 /root/guest.py serve >/dev/null 2>&1 </dev/null &")
    for _ in range(100):
        if daemon.run("exec", "-n", "seed", "--", "test", "-S", "/run/demo.sock", check=False) is not None:
            try:
                return ask(daemon, "seed", "status")
            except Failed:
                time.sleep(0.2)
    raise Failed("the guest's process does not answer")


def table(daemon, fork):
    live = {s["name"]: s for s in daemon.json("ls")["sandboxes"]}
    say("   child      running    answers    private memory   stored if kept")
    for child in fork["children"]:
        box, t = live[child["sandbox"]["name"]], child["timing"]
        stored = daemon.json("snapshot", box["name"])["snapshot"]["stored_bytes"]
        say(f"   {box['name']:<9}{t['running_us'] / 1000:>8.0f} ms{t['answer_us'] / 1000:>8.0f} ms"
            f"{box['private_bytes'] / 2**20:>13.1f} MiB{stored / 2**10:>13.0f} KiB")


def story(daemon):
    daemon.import_debian()
    before = start_parent(daemon)
    say(f"2. In it a Python process holds 64 MB of state and counts; it is at {before['count']}.")

    fork = daemon.json("fork", "seed", "-n", str(CHILDREN), "--tag", "point")
    timing = fork["timing"]
    say(f"3. Forked {CHILDREN} ways while it counts. The parent stood still for {timing['pause_us'] / 1000:.1f} ms; "
        f"all children answered after {max(c['timing']['answer_us'] for c in fork['children']) / 1000:.0f} ms.")
    table(daemon, fork)
    names = [c["sandbox"]["name"] for c in fork["children"]]

    say("4. Each child does different work on the live state.")
    crcs = {}
    for factor, name in enumerate(names, start=3):
        first = ask(daemon, name, "status")
        if first["count"] < before["count"] or first["crc"] != before["crc"]:
            raise Failed(f"{name} did not continue from the fork: {first}")
        if not first["disk"] - 1 <= first["count"] <= first["disk"] + 1:
            raise Failed(f"{name}: memory is at {first['count']} but its disk at {first['disk']}")
        after = ask(daemon, name, "work", str(factor))
        crcs[name] = after["crc"]
        say(f"   {name} continued at {first['count']}, its disk said {first['disk']}, now works with factor {factor}: "
            f"state {after['crc']:08x}")
    check(len(set(crcs.values())) == CHILDREN, f"{CHILDREN} children, {CHILDREN} different states")
    parent = ask(daemon, "seed", "status")
    check(parent["crc"] == before["crc"] and parent["note"] == "" and parent["count"] > before["count"],
          f"the parent ran on untouched: it is at {parent['count']}")
    uuids = {daemon.exec(n, "cat", "/proc/sys/kernel/random/uuid") for n in names}
    check(len(uuids) == CHILDREN, "no two children share their random numbers")

    grand = daemon.json("fork", names[0], "-n", "1")["children"][0]["sandbox"]["name"]
    state = ask(daemon, grand, "status")
    say(f"5. {names[0]} is forked again, into {grand}.")
    check(state["crc"] == crcs[names[0]] and state["work"] == 3 and state["note"], "memory and disk are its own")

    daemon.run("rm", "seed")
    say("6. The parent is killed.")
    counts = ask(daemon, names[1], "status")["count"], ask(daemon, grand, "status")["count"]
    check(all(counts), f"its branches count on: {counts[0]}, {counts[1]}")

    snapshot = daemon.json("snapshot", names[2], "--tag", "keep")
    kept = ask(daemon, names[2], "status")
    say(f"7. Snapshot \"keep\" of {names[2]}: {snapshot['snapshot']['stored_bytes'] / 2**20:.1f} MiB stored, durable.")
    say("")
    say("   " + daemon.run("tree").rstrip().replace("\n", "\n   "))
    say("")
    stat = daemon.json("store", "stat")
    say(f"   The store: {stat['logical_bytes'] / 2**20:.0f} MiB of snapshots kept in {stat['stored_bytes'] / 2**20:.0f} MiB "
        f"({stat['unique_bytes'] / 2**20:.0f} MiB of distinct pages).")
    daemon.down()
    daemon.up()
    lost = [s for s in daemon.json("ls")["sandboxes"] if s["state"] == "lost"]
    daemon.json("restore", "keep", "--name", "again")
    back = ask(daemon, "again", "status")
    say(f"8. The daemon was restarted; it lists {len(lost)} branches as lost. \"keep\" is restored.")
    check(back["crc"] == crcs[names[2]] and back["note"] == kept["note"], f"it counts on at {back['count']}")


def main():
    began = time.monotonic()
    try:
        with Daemon(sys.argv[1], sys.argv[2]) as daemon:
            story(daemon)
            place = daemon.dir
        check(not os.path.exists(place), "nothing is left behind")
    except Failed as failed:
        print(f"demo: {failed}", file=sys.stderr)
        return 1
    say(f"Done in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
