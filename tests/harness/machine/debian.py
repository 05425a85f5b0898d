"""A small Debian with the program installed in it, made for the test: a kernel and a disk."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[3]
FILES = HOME / "docs" / "how-to" / "files"
TOOLS = ("debootstrap", "mke2fs", "qemu-system-x86_64", "chroot")
# The release whose Python is of this one's version, so that the wheels made here fit there.
RELEASES = {(3, 11): "bookworm", (3, 13): "trixie"}
PACKAGES = ("systemd-sysv", "udev", "dbus", "procps", "linux-image-cloud-amd64", "python3-pip")
CONTAINERS = ("podman", "crun", "netavark", "aardvark-dns", "catatonit", "ca-certificates")
DISK_BYTES = 8 * 1024**3
AGENT = """\
#!/bin/sh
echo '{"type":"usage","output_tokens":10}' >> "$RUNOFF_EVENTS_FILE"
grep -q 'eat memory' "$1" && exec tail /dev/zero
sleep "$(sed -n 's/.*sleep for \\([0-9]*\\) seconds.*/\\1/p' "$1")"
"""
BOOT = """\
[Service]
WorkingDirectory=/var/lib/check
ExecStart=/usr/bin/python3 -m tests.harness.machine.boot
[Install]
WantedBy=multi-user.target
"""


def why_not() -> str | None:
    """Why there can be no such machine here; None when there can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"there is no {' and no '.join(missing)}"
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        return "making a Debian needs root and an x86_64 processor"
    if sys.version_info[:2] not in RELEASES:
        return "no Debian release has this version of Python"
    return None


@dataclass(frozen=True)
class Machine:
    """What a machine is started from."""

    kernel: Path
    first_disk: Path
    disk: Path


def machine(folder: Path, tell: Callable[[str], None], *, containers: bool) -> Machine:
    """Make one below ``folder``; takes minutes, and a package mirror of Debian and of Python."""
    root = folder / "root"
    tell("making a Debian")
    _debian(root, (*PACKAGES, *(CONTAINERS if containers else ())))
    tell("installing the program in it")
    _program(root)
    if containers:
        tell("making an image to build on")
        _base(folder / "base", root / "var/lib/check")
    tell("making its disk")
    disk = folder / "disk.img"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk))
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    (first,) = (root / "boot").glob("initrd.img-*")
    made = Machine(folder / "vmlinuz", folder / "initrd", disk)
    shutil.copy(kernel, made.kernel)
    shutil.copy(first, made.first_disk)
    shutil.rmtree(root)
    return made


def _debian(root: Path, packages: tuple[str, ...]) -> None:
    release = RELEASES[sys.version_info[0], sys.version_info[1]]
    how = ["--variant=minbase", f"--include={','.join(packages)}"]
    _run("debootstrap", *how, release, str(root), *_mirror())


def _mirror() -> Iterator[str]:
    """Where this system's own packages come from, if it is a Debian; else debootstrap's default."""
    if shutil.which("apt-get"):
        asked = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(COMPONENT)"]
        for line in _run(*asked, "Created-By: Packages").splitlines():
            origin, address, component = line.split("|")
            if (origin, component) == ("Debian", "main") and "security" not in address:
                yield address
                return


def _program(root: Path) -> None:
    """The wheel as people install it, the files of the page, and what is tried with them."""
    check, home = root / "var/lib/check", root / "var/lib/runoff"
    wheels, source = check / "wheels", check / "src"
    wheels.mkdir(parents=True)
    home.mkdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)]
    _run(*pip, str(HOME), "tzdata", "hatchling>=1.27")
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    for name in ("engine", "projections", "docs", "tests/harness"):
        shutil.copytree(HOME / name, source / name, ignore=ignored)
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "run"):
        shutil.copy(HOME / name, source)
    (check / "tests").symlink_to("src/tests")
    offline = ["--no-index", "--find-links", "/var/lib/check/wheels", "--break-system-packages"]
    _run("chroot", str(root), "pip", "install", "--quiet", *offline, "runoff", "tzdata")
    _run("chroot", str(root), "useradd", "--system", "--home-dir", "/var/lib/runoff", "runoff")
    shutil.copy(FILES / "runoff.service", root / "etc/systemd/system")
    shutil.copy(FILES / "daemon.toml", home)
    for place in (home, check):
        (place / "agent").write_text(AGENT)
        (place / "agent").chmod(0o755)
    _run("chroot", str(root), "chown", "-R", "runoff:", "/var/lib/runoff")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (root / "etc/systemd/system/check.service").write_text(BOOT)
    _run("chroot", str(root), "systemctl", "enable", "--quiet", "check.service")


def _base(root: Path, check: Path) -> None:
    """An image with Python and pip and nothing else, under the name that the file begins with."""
    _debian(root, ("python3-pip",))
    with tarfile.open(check / "base.tar", "w") as tar:
        tar.add(
            root, arcname=".", filter=lambda info: info if info.isreg() or _kept(info) else None
        )
    shutil.rmtree(root)


def _kept(info: tarfile.TarInfo) -> bool:
    return info.isdir() or info.issym() or info.islnk()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        end = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {end}")
    return done.stdout
