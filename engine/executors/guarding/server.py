"""The fork server: it holds a loaded interpreter, so that a guardian starts as cheap as a fork.

Over the socket at its standard input come single bytes, each with the descriptor of another
socket: a guardian to be, which finds the engine at the other end.  The end of the first socket
means that the engine is gone, or needs no more; guardians go on, whatever becomes of their server.

A pattern of long standing: ``multiprocessing``'s ``forkserver``, and Android's zygote.
"""

import gc
import os
import resource
import sys
import warnings
from _socket import CMSG_LEN, SCM_RIGHTS, SOL_SOCKET, socket  # the public module imports enum

from engine.executors.guarding.attempt import main
from engine.executors.guarding.child import PR_SET_PDEATHSIG, prctl
from engine.executors.guarding.files import quietly
from engine.redaction import covering

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

DESCRIPTOR_BYTES = 4
WANTED_LATER = (warnings, covering)
"""What ``os.execvpe`` and the first output with a long word import, once for all."""


def serve() -> None:
    """Fork guardians until the engine hangs up.  Never returns."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # if it is stopped then, it would not hear that
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a guardian waits for what may be blocked here
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), most))  # as children expect it
    covering.cover(b"-", [(0, 1)], {}, final=True)  # which compiles its patterns
    door = socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects our dead
    gc.freeze()  # or each guardian's first collection would copy all of it
    while (caller := _next_caller(door)) >= 0:
        fork_for(caller)
    os._exit(0)


def _next_caller(door: socket) -> int:
    """The next guardian's end of its socket; -1 when there will be no more."""
    while True:
        word, extra, _, _ = door.recvmsg(1, CMSG_LEN(DESCRIPTOR_BYTES))
        if not word:
            return -1
        for level, kind, data in extra:
            if level == SOL_SOCKET and kind == SCM_RIGHTS and len(data) == DESCRIPTOR_BYTES:
                return int.from_bytes(data, sys.byteorder)


def fork_for(caller: int) -> None:
    """Fork a guardian that talks over ``caller``; says there which limit forbids it (``L``)."""
    try:
        pid = os.fork()
    except OSError as error:
        quietly(os.write, caller, f"L cannot fork: {error.strerror}\n".encode())
        pid = -1
    if pid == 0:
        for descriptor in (0, 1):
            os.dup2(caller, descriptor)
        os.close(caller)
        os.setsid()
        main()
        os._exit(1)
    os.close(caller)
