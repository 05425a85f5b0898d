"""Started in the machine at each boot: the first ends in a reset, the second with the power off."""

from __future__ import annotations

from tests.harness.machine.asking import CHECK, call, tell
from tests.harness.machine.container import container
from tests.harness.machine.service import (
    comes_back,
    greedy,
    hangs,
    killed,
    locked_out,
    proved,
    refuses,
    reloads,
    reset,
    starts,
    stops,
)


def first_boot() -> None:
    """Everything up to the reset."""
    starts()
    reloads()
    killed()
    hangs()
    greedy()
    locked_out()
    stops()
    refuses()
    proved("proof")
    reset()


def second_boot() -> None:
    """What comes after it."""
    comes_back()
    proved("proof after the reset")
    if (CHECK / "base.tar").exists():
        container()


def main() -> None:
    """Do this boot's part; a failure of this file itself is told, too."""
    mark = CHECK / "booted"
    try:
        if mark.exists():
            second_boot()
            tell("end")
        else:
            mark.touch()
            first_boot()
    except BaseException as error:
        tell("the check itself", [repr(error)])
        raise
    finally:
        call("systemctl", "poweroff")


if __name__ == "__main__":
    main()
