# SPDX-License-Identifier: Apache-2.0
"""A rametd of a test's own: fresh directories, its API, its end, and a look at what it leaves behind."""
import base64
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIP = 77


class ApiError(Exception):
    def __init__(self, status, body):
        error = body.get("error", {}) if isinstance(body, dict) else {}
        self.status, self.body = status, body
        self.code, self.message, self.hint = error.get("code"), error.get("message", ""), error.get("hint", "")
        super().__init__(f"{status} {self.code}: {self.message} ({self.hint})")


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Checks:
    """Prints one line per check and remembers whether any failed."""

    def __init__(self):
        self.failed = self.passed = 0

    def __call__(self, good, what, detail=""):
        print(f"{'ok  ' if good else 'FAIL'} {what}{f': {detail}' if detail and not good else ''}", flush=True)
        if good:
            self.passed += 1
        else:
            self.failed += 1
        return good

    def fails(self, what, code, call, status=None, words=(), hint=False):
        """`call` must raise ApiError with this code, and its message must hold the words. Returns the error."""
        try:
            answer = call()
        except ApiError as error:
            text = error.message + " " + error.hint
            lacking = [word for word in words if str(word) not in text]
            good = error.code in (code if isinstance(code, tuple) else (code,)) and not lacking
            good = good and (status is None or error.status == status) and (not hint or error.hint)
            self(good, what, f"{error}; lacks {lacking}" if lacking else str(error))
            return error
        except (OSError, http.client.HTTPException) as error:
            self(False, what, repr(error))
            return None
        self(False, what, f"succeeded: {str(answer)[:300]}")
        return None

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def sha256(path):
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def mounts_below(top):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line.split()[4] for line in file if (line.split()[4] + "/").startswith(top + "/")]


def processes_of(top):
    """Pids whose command line or environment names the directory: the daemon and its QEMUs, nobody else's."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/comm", encoding="utf-8") as file:
                name = file.read().strip()
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                text = file.read()
            with open(f"/proc/{entry}/environ", "rb") as file:
                text += file.read()
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                zombie = file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            continue
        if top.encode() + b"/" in text and not zombie and ("qemu" in name or "ramet" in name or "guest" in name):
            found.append(int(entry))
    return found


def wait_until(predicate, seconds):
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Daemon:
    def __init__(self, bin_dir, guest_dir, env=None, place=None):
        self.bin, self.guest = os.path.abspath(bin_dir), os.path.abspath(guest_dir)
        self.top = place or tempfile.mkdtemp(prefix="e2e-ramet-")
        self.store, self.mount = f"{self.top}/store", f"{self.top}/mnt"
        self.run, self.socket = f"{self.top}/vm", f"{self.top}/api.sock"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("RAMET_")}
        for key in ("RAMET_HOLDER", "RAMET_CAPTURE", "RAMET_ACCEL"):
            if key in os.environ:
                self.env[key] = os.environ[key]
        self.env |= {"RAMET_STORE": self.store, "RAMET_MOUNT": self.mount, "RAMET_RUN": self.run,
                     "RAMET_SOCKET": self.socket} | (env or {})
        self.pid = 0

    # The programs

    def run_program(self, argv, timeout=120, **more):
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=self.env | more)

    def ramet(self, *argv, timeout=120, **more):
        return self.run_program([f"{self.bin}/ramet", *argv], timeout, **more)

    def up(self, *options, **more):
        """Starts it, or raises with what it said."""
        done = self.ramet("up", "--json", *options, **more)
        if done.returncode != 0:
            raise RuntimeError(f"ramet up: exit code {done.returncode}: {done.stderr.strip()}")
        self.pid = json.loads(done.stdout)["pid"]
        return self

    def down(self):
        done = self.ramet("down")
        wait_until(lambda: not processes_of(self.top), 10)
        return done.returncode

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: self.pid not in processes_of(self.top), 10)

    # The API

    def raw(self, method, path, body=None, headers=None, timeout=180):
        connection = Connection(self.socket, timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        try:
            parsed = json.loads(data)
        except ValueError:
            parsed = data
        if answer.status >= 400:
            raise ApiError(answer.status, parsed)
        return parsed

    def api(self, method, path, body=None, timeout=180):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        return self.raw(method, path, None if body is None else json.dumps(body), headers, timeout)

    def get(self, path):
        return self.api("GET", path)

    def post(self, path, body=None, timeout=180):
        return self.api("POST", path, body, timeout)

    def delete(self, path):
        return self.api("DELETE", path)

    def sandboxes(self):
        return self.get("/v1/sandboxes")["sandboxes"]

    def snapshots(self):
        return self.get("/v1/snapshots")["snapshots"]

    def stat(self):
        return self.get("/v1/store/stat")

    def import_guest(self, tag="debian"):
        with open(f"{self.guest}/cmdline", encoding="utf-8") as file:
            cmdline = file.read().strip()
        return self.post("/v1/snapshots/import", {"tag": tag, "cmdline": cmdline, "disk": f"{self.guest}/disk.raw",
                         "kernel": f"{self.guest}/vmlinuz", "initrd": f"{self.guest}/initrd.img"})

    def boot(self, name, memory_mib=128, snapshot="debian"):
        return self.post("/v1/sandboxes", {"snapshot": snapshot, "name": name, "memory_bytes": memory_mib << 20})

    def exec(self, sandbox, *argv, stdin=None, timeout_ms=60000):
        """What the command printed; raises when it failed."""
        body = {"argv": list(argv), "timeout_ms": timeout_ms} | ({"stdin": stdin} if stdin is not None else {})
        answer = self.post(f"/v1/sandboxes/{sandbox}/exec", body)
        out, err = (base64.b64decode(answer[name]).decode(errors="replace")
                    if answer[f"{name}_encoding"] == "base64" else answer[name] for name in ("stdout", "stderr"))
        if answer["exit_code"] != 0:
            raise RuntimeError(f"{sandbox}: {argv}: exit code {answer['exit_code']}: {out}{err}")
        return out

    def image(self, snapshot, name):
        return f"{self.mount}/snapshots/{snapshot}/{name}"

    def log(self):
        with contextlib.suppress(OSError), open(f"{self.socket}.log", encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    # The end

    def remains(self, kept=()):
        """What is there that should not be once the daemon has gone down; `kept` are ids of branches on record."""
        found = [f"process {pid}" for pid in processes_of(self.top)]
        found += [f"mount {where}" for where in mounts_below(self.top)]
        if not mounts_below(self.mount):
            for place in (self.mount, self.run, f"{self.store}/branches"):
                for directory, _, files in os.walk(place):
                    if os.path.basename(directory) not in kept:
                        found += [f"file {directory}/{name}" for name in files]
        if os.path.exists(self.socket):
            found.append(f"socket {self.socket}")
        return found

    def finish(self, check=None):
        """Takes it down, checks that nothing is left, and removes its directories."""
        kept = []
        try:
            with contextlib.suppress(OSError, ApiError):
                kept = [sandbox["id"] for sandbox in self.sandboxes()]
            code = self.down()
            if check:
                check(code == 0, "ramet down exits 0", str(code))
            left = self.remains(kept)
            if check:
                check(not left, "nothing is left behind: no process, mount, socket or file", "; ".join(left[:8]))
        finally:
            self.clear()

    def clear(self):
        for pid in processes_of(self.top):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for where in sorted(mounts_below(self.top), reverse=True):
            subprocess.run(["umount", "-l", where], check=False)
        shutil.rmtree(self.top, ignore_errors=True)


@contextlib.contextmanager
def running(check, *args, **kwargs):
    """A Daemon that is up. A failed step ends the test as a failed check, but never leaves a VM behind."""
    vm = Daemon(*args, **kwargs)
    try:
        yield vm.up()
    except Exception as error:
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)


def arguments():
    """BIN_DIR and GUEST_DIR; ends the test with 77 where there is no FUSE."""
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} BIN_DIR GUEST_DIR")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("SKIP: /dev/fuse is missing")
        sys.exit(SKIP)
    return sys.argv[1], sys.argv[2]


# A guest program that holds 32 MiB of known state and counts, on disk too, with fsync. It answers "get" with its
# count, the digest of its state and 16 bytes of it in hex ("count": without the digest); "set TEXT" writes there.
# MD5: where guests are emulated it takes 0.4 s of CPU, and SHA-256 8 s.
COUNTER = r'''
import hashlib, os, select, socket, sys
state = bytearray(32 << 20)
for i in range(8192):
    state[i * 4096:(i + 1) * 4096] = hashlib.sha256(b"%d" % i).digest() * 128
try: os.unlink("/root/counter.sock")
except OSError: pass
server = socket.socket(socket.AF_UNIX); server.bind("/root/counter.sock"); server.listen(8)
disk = os.open("/root/count", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
count = 0
while True:
    count += 1
    os.pwrite(disk, b"%012d\n" % count, 0); os.fsync(disk)
    if select.select([server], [], [], 0.1)[0]:
        link = server.accept()[0]
        words = link.recv(4096).decode().split(" ", 1)
        if words[0] == "set":
            text = words[1].encode(); state[4096:4096 + len(text)] = text
        digest = hashlib.md5(state).hexdigest() if words[0] != "count" else "-"
        link.sendall(b"%d %s %s" % (count, digest.encode(), state[4096:4112].hex().encode()))
        link.close()
'''
# With `python3 -IS`, which starts in half the time.
ASK = r'''
import _socket, sys
link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM); link.connect("/root/counter.sock")
link.sendall(sys.argv[1].encode())
answer = b""
while piece := link.recv(4096): answer += piece
print(answer.decode())
'''


def known_digest(text=None):
    """What the counter's state hashes to, after "set TEXT"."""
    state = bytearray(b"".join(hashlib.sha256(b"%d" % page).digest() * 128 for page in range(8192)))
    if text is not None:
        state[4096:4096 + len(text)] = text.encode()
    return hashlib.md5(state).hexdigest()


def start_counter(daemon, sandbox):
    daemon.exec(sandbox, "sh", "-c", "cat > /root/counter.py; sync", stdin=COUNTER)
    daemon.exec(sandbox, "sh", "-c", "setsid nohup python3 /root/counter.py >/dev/null 2>&1 </dev/null & exit 0")
    wait_until(lambda: count_of(daemon, sandbox) > 3, 20)


def ask(daemon, sandbox, words="get"):
    """Count, digest of the state, and the 16 bytes at which "set" writes."""
    count, digest, text = daemon.exec(sandbox, "python3", "-IS", "-c", ASK, words).strip().split(" ")
    return int(count), digest, bytes.fromhex(text)


def count_of(daemon, sandbox):
    try:
        return ask(daemon, sandbox, "count")[0]
    except RuntimeError:
        return 0
