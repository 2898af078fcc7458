# SPDX-License-Identifier: Apache-2.0
"""The file systems of the workspace bench, each mounted below one directory on the machine's disk, and what they are
given to do: sources of Debian packages, a git repository, an npm project with its cache, fetched once.

A peer that is not installed is installed from Debian; passthrough_hp is built from the source of Debian's fuse3."""
import glob
import os
import shutil
import subprocess
import time

PACKAGES = ("fuse-overlayfs", "git", "g++", "make", "libfuse3-dev", "xz-utils")
NPM = {"webpack": "5", "webpack-cli": "5", "typescript": "5", "eslint": "8", "express": "4", "lodash": "4"}


def run(*argv, **more):
    done = subprocess.run(argv, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def install(packages=PACKAGES):
    missing = [p for p in packages if subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", p],
                                                     capture_output=True, text=True).stdout != "installed"]
    if missing:
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing,
            env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))


# ---- what is worked on ----

def debian_sources(directory, *packages):
    """Downloads source packages with lists of our own, so that the machine's are left as they are."""
    parts, lists = f"{directory}/apt/parts", f"{directory}/apt/lists/partial"
    for path in (parts, lists):
        os.makedirs(path, exist_ok=True)
    for path in glob.glob("/etc/apt/sources.list.d/debian.sources"):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(f"{parts}/src.sources", "w", encoding="utf-8") as file:
            file.write(text.replace("Types: deb\n", "Types: deb-src\n"))
    with open(f"{directory}/apt/conf", "w", encoding="utf-8") as file:
        file.write(f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n'
                   f'Dir::State::lists "{directory}/apt/lists";\nAPT::Sandbox::User "root";\n')
    env = dict(os.environ, APT_CONFIG=f"{directory}/apt/conf")
    run("apt-get", "-qq", "update", env=env)
    run("apt-get", "-qq", "source", "--download-only", *packages, env=env, cwd=directory)


class Corpus:
    """Kept in the cache: sources, a repository of git's source, an npm project and its cache."""

    def __init__(self, cache):
        self.dir = f"{cache}/workspace"
        os.makedirs(self.dir, exist_ok=True)
        if not self.find("git"):
            debian_sources(self.dir, "git", "lua5.4", "fuse3")
        self.git_tar, self.lua_tar = self.find("git"), self.find("lua5.4")
        self.repository, self.npm, self.npm_cache = f"{self.dir}/repository", f"{self.dir}/npm", f"{self.dir}/npm-cache"
        self.passthrough = f"{self.dir}/passthrough_hp"
        self.make_repository()
        self.make_npm()
        self.make_passthrough()

    def find(self, package):
        found = [p for p in glob.glob(f"{self.dir}/{package}_*.orig.tar.*") if not p.endswith(".asc")]
        return found[0] if found else None

    def make_repository(self):
        if os.path.isdir(f"{self.repository}/.git"):
            return
        shutil.rmtree(self.repository, ignore_errors=True)
        os.makedirs(self.repository)
        run("tar", "xf", self.git_tar, "-C", self.repository, "--strip-components=1")
        git = ["git", "-C", self.repository, "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        run(*git, "init", "-q")
        run(*git, "add", "-A", "-f")
        run(*git, "commit", "-q", "-m", "source")
        run(*git, "gc", "-q")

    def make_npm(self):
        """False in self.has_npm where there is no npm or no registry: the rows are then named as missing."""
        filled = f"{self.npm_cache}/filled"
        self.has_npm = os.path.exists(filled)
        if self.has_npm or not shutil.which("npm"):
            return
        os.makedirs(self.npm, exist_ok=True)
        with open(f"{self.npm}/package.json", "w", encoding="utf-8") as file:
            deps = ", ".join(f'"{name}": "^{version}"' for name, version in NPM.items())
            file.write(f'{{"name": "bench", "version": "1.0.0", "private": true, "dependencies": {{{deps}}}}}\n')
        try:
            for what in ("install", "ci"):  # what the second asks for is not all that the first did
                run("npm", what, "--silent", "--no-audit", "--no-fund", f"--cache={self.npm_cache}", cwd=self.npm)
                shutil.rmtree(f"{self.npm}/node_modules")
        except RuntimeError as error:
            print(f"npm: {error}")
            return
        with open(filled, "w", encoding="utf-8"):
            self.has_npm = True

    def make_passthrough(self):
        if os.access(self.passthrough, os.X_OK):
            return
        run("tar", "xf", self.find("fuse3"), "-C", self.dir)
        source = glob.glob(f"{self.dir}/*fuse*/example/passthrough_hp.cc")[0]
        run("sh", "-c", f"g++ -O2 -std=c++17 -D_FILE_OFFSET_BITS=64 -DHAVE_UTIMENSAT -DHAVE_SETXATTR -DHAVE_POSIX_FALLOCATE $(pkg-config --cflags fuse3) "
            f"{source} -o {self.passthrough} $(pkg-config --libs fuse3) -lpthread")


# ---- where it is worked ----

def await_mount(path):
    for _ in range(500):
        if os.path.ismount(path):
            return
        time.sleep(0.01)
    raise RuntimeError(f"nothing was mounted on {path}")


class Ext4:
    """The machine's own disk (whatever it has), which the others lie on."""
    name = "ext4"

    def __init__(self, top):
        self.top, self.dir = top, f"{top}/tree"
        os.makedirs(self.dir)

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)


class Layered:
    """Below: lower (empty), upper and work, the tree mounted of them."""

    def __init__(self, top):
        self.top, self.dir = top, f"{top}/tree"
        for name in ("lower", "upper", "work", "tree"):
            os.makedirs(f"{top}/{name}")
        self.mount()
        await_mount(self.dir)

    def close(self):
        subprocess.run(["umount", self.dir], check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def options(self):
        return f"lowerdir={self.top}/lower,upperdir={self.top}/upper,workdir={self.top}/work"


class Overlayfs(Layered):
    name = "overlayfs"

    def mount(self):
        run("mount", "-t", "overlay", "overlay", "-o", self.options(), self.dir)


class FuseOverlayfs(Layered):
    name = "fuse-overlayfs"

    def mount(self):
        run("fuse-overlayfs", "-o", self.options(), self.dir)


class Passthrough:
    name = "passthrough_hp"

    def __init__(self, top, program):
        self.top, self.dir = top, f"{top}/tree"
        for name in ("source", "tree"):
            os.makedirs(f"{top}/{name}")
        self.process = subprocess.Popen([program, "--foreground", f"{top}/source", self.dir],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_mount(self.dir)

    def close(self):
        subprocess.run(["umount", self.dir], check=False)
        self.process.wait(10)
        shutil.rmtree(self.top, ignore_errors=True)
