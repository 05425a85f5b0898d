"""Which processes belong to an attempt, however they tried to leave it."""

import os

from engine.executors.guarding.files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def descendants(root: int) -> "list[int]":
    """Every process below ``root``, from the kernel's lists of children, parents first."""
    if not os.path.exists(f"/proc/{root}/task/{root}/children"):  # noqa: PTH110
        return below(root, {pid: parent for pid, parent, _ in _all_processes()})
    found = {root: None}  # in order, and quick to ask, for crowds of thousands
    waiting = [root]
    while waiting:
        fresh = [child for child in _children(waiting.pop()) if child not in found]
        found.update(dict.fromkeys(fresh))
        waiting += fresh
    return list(found)[1:]


def below(root: int, parent_of: "dict[int, int]") -> "list[int]":
    """The pids whose chain of parents leads to ``root``."""
    found = [root]
    for ancestor in found:
        found += [pid for pid, parent in parent_of.items() if parent == ancestor]
    return found[1:]


def carriers(marker: str) -> "list[int]":
    """Every process that has ``marker``, a NAME=value, in its environment, by ``/proc``."""
    found: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        try:
            if name.isdigit() and marker in read(f"/proc/{name}/environ").split("\0"):
                found.append(int(name))
        except OSError:  # it is gone, or another user's
            continue
    return found


def listing() -> str:
    """All processes as ``ps`` of a system without ``/proc`` tells them, environment included."""
    from subprocess import run  # noqa: PLC0415  only where there is no better way

    command = ["/bin/ps", "-A", "-E", "-ww", "-o", "pid=,ppid=,pgid=,stat=,command="]
    answer = run(command, capture_output=True, check=False)  # noqa: S603
    return answer.stdout.decode("utf-8", "replace")


def tree_in_listing(text: str, guardian: int, child: int, marker: str) -> "list[tuple[int, int]]":
    """(pid, group) of an attempt's living processes in what ``ps`` printed, zombies left out.

    Lines hold pid, parent, group, state and command with environment; without a subreaper the
    daemonised ones are known by their group or by ``marker``, a NAME=value of the environment.
    """
    rows: dict[int, tuple[int, int, bool]] = {}
    for line in text.splitlines():
        fields = line.split(None, 4)
        if len(fields) >= 4 and not fields[3].startswith("Z"):  # noqa: PLR2004
            marked = marker in fields[-1].split()
            rows[int(fields[0])] = (int(fields[1]), int(fields[2]), marked)
    tree = set(below(guardian, {pid: parent for pid, (parent, _, _) in rows.items()}))
    tree |= {pid for pid, (_, group, marked) in rows.items() if marked or group == child}
    return [(pid, rows[pid][1]) for pid in sorted(tree - {guardian})]


def _children(pid: int) -> "list[int]":
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
        lists = [read(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    except OSError:
        return []
    return [int(child) for text in lists for child in text.split()]


def _all_processes() -> "Iterable[tuple[int, int, int]]":
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (row := parent_and_group(int(name))):
            yield (int(name), *row)


def parent_and_group(pid: int) -> "tuple[int, int] | None":
    """Parent and process group of a process that is not dead."""
    try:
        state, parent, group, _ = read(f"/proc/{pid}/stat").rpartition(")")[2].split(None, 3)
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else (int(parent), int(group))
