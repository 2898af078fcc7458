# SPDX-License-Identifier: Apache-2.0
"""The systems of the store bench: how each takes images in and gives them back, as command lines.

All of them write under one directory each; caches they keep elsewhere (restic, borg) are
not counted as stored. Options are those that serve a peer best here: sparse files for borg,
all cores for those that can."""
import contextlib
import os
import shutil
import subprocess
import sys
import time


class System:
    """One way of storing images. `repo` is a fresh directory of its own, `home` room for caches."""
    program = package = None

    def __init__(self, name, work):
        self.name, self.repo, self.home = name, f"{work}/{name}", f"{work}/{name}.home"
        self.env = dict(os.environ, HOME=self.home)
        for directory in (self.repo, self.home):
            os.makedirs(directory)

    def init(self):
        """The command that makes the repository, or None."""

    def ingest(self, image):
        raise NotImplementedError

    def restore(self, image, directory):
        """The command, run in the empty `directory`."""
        raise NotImplementedError

    def restored(self, image, directory):
        return f"{directory}/{image['file']}"


class Ours(System):
    def __init__(self, name, work, tool):
        super().__init__(name, work)
        self.tool = tool

    def ingest(self, image):
        parent = ["--parent", image["parent"].lower()] if image["parent"] else []
        kind = "disk0" if image["name"].startswith("disk") else "memory"
        return [self.tool, "ingest", self.repo, image["name"].lower(), image["path"], "--image", kind, *parent]

    def restore(self, image, directory):
        return [self.tool, "restore", self.repo, image["name"].lower(), self.restored(image, directory)]

    def recompress(self):
        return [self.tool, "recompress", self.repo]

    def reads(self, image, count, *options):
        return [self.tool, "reads", self.repo, image["name"].lower(), "--count", str(count), *options]

    def direct(self, path, count, *options):
        return [self.tool, "direct", path, "--count", str(count), *options]


class Restic(System):
    program = package = "restic"

    def __init__(self, name, work):
        super().__init__(name, work)
        self.env["RESTIC_PASSWORD"] = "bench"

    def command(self, *args):
        return ["restic", "-q", "-r", self.repo, *args]

    def init(self):
        return self.command("init")

    def ingest(self, image):
        return self.command("backup", "--tag", image["name"], image["path"])

    def restore(self, image, directory):
        return self.command("restore", "latest", "--tag", image["name"], "--target", directory)

    def restored(self, image, directory):
        return directory + image["path"]


class Borg(System):
    program, package = "borg", "borgbackup"

    def __init__(self, name, work, *chunker):
        super().__init__(name, work)
        self.chunker = chunker
        self.env |= {"BORG_BASE_DIR": self.home, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def init(self):
        return ["borg", "init", "--encryption", "none", self.repo]

    def ingest(self, image):
        return ["borg", "create", "--compression", "zstd,1", *self.chunker, f"{self.repo}::{image['name']}",
                image["path"]]

    def restore(self, image, directory):
        return ["borg", "extract", "--sparse", f"{self.repo}::{image['name']}"]

    def restored(self, image, directory):
        return directory + image["path"]


class Casync(System):
    program = package = "casync"

    def __init__(self, name, work, chunk_bytes):
        super().__init__(name, work)
        self.chunk_bytes = chunk_bytes

    def command(self, verb, image, path):
        return ["casync", verb, f"--store={self.repo}/store.castr", f"--chunk-size={self.chunk_bytes}",
                "--compression=zstd", f"{self.repo}/{image['name']}.caibx", path]

    def ingest(self, image):
        return self.command("make", image, image["path"])

    def restore(self, image, directory):
        return self.command("extract", image, self.restored(image, directory))


class Qcow2(System):
    program, package = "qemu-img", "qemu-utils"

    def stored(self, image):
        return f"{self.repo}/{image['name']}.qcow2"

    def ingest(self, image):
        return ["qemu-img", "convert", "-f", "raw", "-c", "-O", "qcow2", "-o", "compression_type=zstd", image["path"],
                self.stored(image)]

    def restore(self, image, directory):
        return ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.stored(image), self.restored(image, directory)]

    @contextlib.contextmanager
    def mounted(self, image):
        """Gives a file that reads as the image, by QEMU's own FUSE export."""
        path = f"{self.home}/{image['file']}"
        with open(path, "w"):
            pass
        disk = f"driver=qcow2,node-name=image,read-only=on,file.driver=file,file.filename={self.stored(image)}"
        export = f"type=fuse,id=export,node-name=image,mountpoint={path},writable=off"
        daemon = subprocess.Popen(["qemu-storage-daemon", "--blockdev", disk, "--export", export])
        try:
            while os.path.getsize(path) == 0:
                if daemon.poll() is not None:
                    raise RuntimeError("qemu-storage-daemon ended early")
                time.sleep(0.01)
            yield path
        finally:
            daemon.terminate()
            daemon.wait()


class Zstd(System):
    program = package = "zstd"

    def stored(self, image):
        return f"{self.repo}/{image['name']}.zst"

    def ingest(self, image):
        return ["zstd", "-q", "-1", "-T2", image["path"], "-o", self.stored(image)]

    def restore(self, image, directory):
        return ["zstd", "-q", "-d", self.stored(image), "-o", self.restored(image, directory)]


FIXED = "--sparse", "--chunker-params"  # borg skips holes with chunks of one size only
SYSTEMS = {
    "restic": Restic,
    "borg": Borg,
    "borg-64k": lambda name, work: Borg(name, work, *FIXED, "fixed,65536"),
    "borg-4k": lambda name, work: Borg(name, work, *FIXED, "fixed,4096"),
    "casync-64k": lambda name, work: Casync(name, work, 65536),
    "casync-16k": lambda name, work: Casync(name, work, 16384),
    "qcow2": Qcow2,
    "zstd": Zstd,
}
QUICK = "restic", "borg-64k"


def systems(work, tool, quick):
    """Ours first, then every peer that is or could be installed; and the names of those that are missing."""
    there = [Ours("ramet", work, tool)]
    there += [make(name, work) for name, make in SYSTEMS.items() if name in QUICK or not quick]
    wanted = sorted({s.package for s in there if s.program and not shutil.which(s.program)})
    if wanted:
        print(f"installing {' '.join(wanted)}", file=sys.stderr)
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for command in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
            subprocess.run(["apt-get", "-qq", *command], env=env, stdout=subprocess.DEVNULL, check=False)
    missing = [s.name for s in there if s.program and not shutil.which(s.program)]
    return [s for s in there if s.name not in missing], missing
