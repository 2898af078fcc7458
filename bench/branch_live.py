#!/usr/bin/env python3
import os, sys, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from daemon import Daemon
from report import arguments, finish, print_series, promise, series
from fork import dirty, DIRTY

def main():
    args = arguments(__doc__).parse_args()
    rounds = 3
    results = []
    with Daemon(args.bin, args.guest) as d:
        d.import_debian()
        d.json("run", "debian", "--name", "boot", "--memory", "512M")
        d.exec("boot", "mkfifo", "/run/go")
        for mib in (0, 16, 64, 256):
            if mib:
                d.put_file("boot", "/root/dirty.py", DIRTY.format(mib=mib))
                d.exec("boot", "sh", "-c", "setsid python3 /root/dirty.py >/dev/null 2>&1 </dev/null & echo $! > /run/pid")
                dirty(d, "boot", mib)
            d.json("snapshot", "boot", "--tag", f"base{mib}")
            if mib:
                d.exec("boot", "sh", "-c", "kill $(cat /run/pid)")
        d.run("rm", "boot")
        for r in range(rounds):
            for mib in (0, 16, 64, 256):
                d.json("restore", f"base{mib}", "--name", "p")
                if mib: dirty(d, "p", mib)
                time.sleep(0.3)
                f = d.json("fork", "p", "-n", "1", "--wait-durable")
                t = f["timing"]
                print(mib, {k: v for k, v in t.items()}, f["snapshot"]["captured_pages"], flush=True)
                f2 = d.json("fork", "p", "-n", "1", "--wait-durable")
                print("  again", f2["timing"], f2["snapshot"]["captured_pages"], f2["snapshot"]["stored_bytes"])
                d.run("rm", f2["children"][0]["sandbox"]["name"])
                d.run("rm", f["children"][0]["sandbox"]["name"], "p")
                d.run("rm", f2["snapshot"]["id"]); d.run("rm", f["snapshot"]["id"])
main()
