# SPDX-License-Identifier: Apache-2.0
"""A daemon of one's own in a temporary directory, driven through the CLI. For the demo and the benches."""
import json
import os
import shutil
import subprocess
import tempfile


class Failed(Exception):
    pass


class Daemon:
    def __init__(self, bin_dir, guest_dir):
        self.bin, self.guest = os.path.abspath(bin_dir), guest_dir
        self.dir = tempfile.mkdtemp(prefix="ramet-")
        self.env = dict(os.environ, RAMET_STORE=f"{self.dir}/store", RAMET_SOCKET=f"{self.dir}/sock",
                        RAMET_MOUNT=f"{self.dir}/mnt", RAMET_RUN=f"{self.dir}/vm")

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *exc):
        try:
            self.down()
        finally:
            shutil.rmtree(self.dir)

    def run(self, *args, check=True, stdin=subprocess.DEVNULL):
        """Runs `ramet ARGS` and gives its stdout."""
        done = subprocess.run([f"{self.bin}/ramet", *args], env=self.env, stdin=stdin, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise Failed(f"ramet {' '.join(args)}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *args):
        name, rest = args[0], list(args[1:])
        if name == "store":
            name, rest = "store", [rest[0], "--json", *rest[1:]]
        else:
            rest = ["--json", *rest]
        return json.loads(self.run(name, *rest))

    def exec(self, sandbox, *argv):
        return self.run("exec", "-n", sandbox, "--", *argv)

    def put_file(self, sandbox, path, text):
        """Writes a small file in the guest, through the command's stdin."""
        with tempfile.TemporaryFile("w+") as source:
            source.write(text)
            source.seek(0)
            self.run("exec", sandbox, "--", "sh", "-c", f"cat > {path}", stdin=source)

    def up(self):
        self.run("up")

    def down(self):
        self.run("down")

    def import_debian(self):
        with open(f"{self.guest}/cmdline") as file:
            cmdline = file.read().strip()
        return self.json("import", "--tag", "debian", "--disk", f"{self.guest}/disk.raw", "--kernel",
                         f"{self.guest}/vmlinuz", "--initrd", f"{self.guest}/initrd.img", "--cmdline", cmdline)
