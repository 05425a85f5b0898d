"""The process that guardians are forked from: ``python -I -S guardian.py``, a socket as stdin.

What a guardian is and how it is talked to stands in ``guarding/``.  This file is short because a
script is compiled at every start, and a module is not.
"""

import os
import sys

if __name__ == "__main__":
    here = os.path.abspath(__file__)  # noqa: PTH100  pathlib costs as much as the whole start
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(here))))  # noqa: PTH120
    try:
        from engine.executors.guarding.server import serve
    except (ImportError, OSError, MemoryError) as error:
        sys.exit(f"{type(error).__name__}: {error}")  # the engine says what follows from it

    serve()
