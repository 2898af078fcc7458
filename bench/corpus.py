# SPDX-License-Identifier: Apache-2.0
"""The images the store bench stores: memory and disks of our own VMs, at work.

    A1      a Debian guest after boot            disk0   its disk
    A2      after work (bench/corpus_guest.py)   disk1   its disk
    A3      5 s of light work later
    B2      another boot, the same work
    P       A2, restored and some work later: the parent of a fork
    C1..C3  its children, each after work of its own

They are sparse files of a directory; corpus.json has what is said of them here."""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools", "demo"))
from daemon import Daemon  # noqa: E402

# name, snapshot it is of, image of the snapshot, the image it came from, in the order they are stored
IMAGES = [("A1", "a1", "memory", None), ("A2", "a2", "memory", "A1"), ("A3", "a3", "memory", "A2"),
          ("B2", "b2", "memory", None), ("disk0", "a1", "disk0", None), ("disk1", "a2", "disk0", "disk0"),
          ("P", "p", "memory", "A2"), ("C1", "c1", "memory", "P"), ("C2", "c2", "memory", "P"),
          ("C3", "c3", "memory", "P")]
CHILDREN = {"c1": (11, 4, 150), "c2": (12, 8, 700), "c3": (13, 14, 3000)}  # seed, seconds, records


def wait_done(daemon, name):
    daemon.run("exec", "-n", name, "--timeout-ms", "600000", "--", "sh", "-c",
               "while [ ! -s /run/done ]; do sleep 0.1; done; rm -f /run/done; sync")


def order(daemon, name, seed, seconds, records):
    daemon.exec(name, "sh", "-c", f"echo {seed} {seconds} {records} > /run/go")
    wait_done(daemon, name)


def boot(daemon, name):
    daemon.json("run", "debian", "--name", name, "--memory", "512M")
    daemon.exec(name, "mkfifo", "/run/go")
    with open(f"{HERE}/corpus_guest.py") as file:
        daemon.put_file(name, "/root/work.py", file.read())
    daemon.exec(name, "sync")


def start_work(daemon, name):
    daemon.exec(name, "sh", "-c", "setsid python3 /root/work.py >/root/work.out 2>&1 </dev/null &")
    wait_done(daemon, name)


def snapshots(daemon):
    """Makes them all; gives what each captured."""
    def take(name, tag):
        pages[tag] = daemon.json("snapshot", name, "--tag", tag)["snapshot"]["captured_pages"]
    pages = {}
    boot(daemon, "a")
    take("a", "a1")
    start_work(daemon, "a")
    take("a", "a2")
    order(daemon, "a", 1, 5, 100)
    take("a", "a3")
    daemon.run("rm", "a")
    boot(daemon, "b")
    start_work(daemon, "b")
    take("b", "b2")
    daemon.run("rm", "b")
    daemon.json("restore", "a2", "--name", "p")
    order(daemon, "p", 2, 10, 1000)
    fork = daemon.json("fork", "p", "-n", "3", "--name", "c", "--tag", "p", "--wait-durable")
    pages["p"] = fork["snapshot"]["captured_pages"]
    daemon.run("rm", "p")
    for i, (tag, work) in enumerate(CHILDREN.items(), 1):
        order(daemon, f"c-{i}", *work)
        take(f"c-{i}", tag)
        daemon.run("rm", f"c-{i}")
    return pages


def nonzero_pages(path):
    """Pages that hold anything; holes are not read."""
    zero, count = bytes(4096), 0
    with open(path, "rb", buffering=0) as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) & ~4095
            except OSError:
                break
            stop = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                data = os.pread(file.fileno(), min(1 << 20, end - at), at)
                count += sum(data[i:i + 4096] != zero for i in range(0, len(data), 4096))
                at += len(data)
    return count


def make(directory, bin_dir, guest):
    os.makedirs(directory, exist_ok=True)
    with Daemon(bin_dir, guest) as daemon:
        daemon.import_debian()
        pages, images = snapshots(daemon), []
        for name, tag, image, parent in IMAGES:
            file = f"{name}.raw" if image == "disk0" else f"{name}.mem"
            path = os.path.abspath(f"{directory}/{file}")
            daemon.run("export", tag, image, path)
            images.append({"name": name, "file": file, "parent": parent, "bytes": os.path.getsize(path),
                           "nonzero_pages": nonzero_pages(path)})
            if image == "memory":
                images[-1]["captured_pages"] = pages[tag]
    with open(f"{directory}/corpus.json", "w") as file:
        json.dump({"images": images}, file, indent=1)
    with open(f"{directory}/READY", "w") as file:
        file.write("ready\n")


def load(directory, bin_dir, guest):
    """The images of a corpus, made when the directory has none."""
    if not os.path.exists(f"{directory}/READY"):
        make(directory, bin_dir, guest)
    with open(f"{directory}/corpus.json") as file:
        images = json.load(file)["images"]
    for image in images:
        image["path"] = os.path.join(os.path.abspath(directory), image["file"])
    return images
