"""From a forked copy of the guardian to the program it guards."""

import errno
import os

from engine.executors.guarding.files import quietly

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal as signal

NO_FILES_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
NOTHING_LEFT = (*NO_FILES_LEFT, errno.EAGAIN)
"""What an operating system says at a limit of the user or the machine."""

AT_A_LIMIT = "L "
"""Begins what a child says that met such a limit on its way to the program."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def become_child(spec: "dict[str, Any]", guardian: int, out: int, err: int, trouble: int) -> None:
    """In the forked child: turn into the program, or say why not and end.  Never returns."""
    what = "enter the workspace " + spec["cwd"]
    code = 126
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:  # it died before that, and nobody would find us by our mark
            os._exit(code)
        for number in range(1, signal.NSIG):
            if number not in {signal.SIGKILL, signal.SIGSTOP}:
                quietly(signal.signal, number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(spec["cwd"])
        what = "start " + spec["argv"][0]
        os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606  no shell
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError | NotADirectoryError) else 126
        limit = AT_A_LIMIT if error.errno in NOTHING_LEFT else ""
        os.write(trouble, f"{limit}cannot {what}: {error.strerror}".encode("utf-8", "replace"))
    except Exception as error:  # noqa: BLE001  whatever it is, the parent must hear of it
        os.write(trouble, f"cannot {what}: {error}".encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _of_the_c_library(name: str) -> "Callable[..., object] | None":
    try:
        from _ctypes import call_function, dlopen, dlsym  # noqa: PLC0415  ctypes costs 8 ms

        address = dlsym(dlopen(None, 0), name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except (ImportError, OSError):
        return None
    return lambda *arguments: call_function(address, arguments)


_prctl = _of_the_c_library("prctl")  # once, for all that are forked from here


def prctl(option: int, value: int) -> bool:
    """Linux's process control; whether it did so, which takes a Python that calls C functions."""
    return _prctl is not None and _prctl(option, int(value), 0, 0, 0) == 0
