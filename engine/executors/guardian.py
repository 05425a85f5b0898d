"""The guardian of one attempt: it starts the child, keeps its output and ends its whole tree.

Run as ``python -I -S guardian.py DIRECTORY`` with a pipe from the engine as standard input and
one to it as standard output.  The directory holds ``spec.json``; the guardian leaves
``guardian.json``, ``stdout``, ``stderr`` and at the very end ``outcome.json`` there.

The engine talks in bytes: ``G`` starts the child, ``E`` ends it; the end of the pipe means that
the engine is gone.  The guardian answers ``R`` once it waits for ``G``, and closes its output by
ending.  This file is short because a script is compiled at every start, and a module is not.
"""

import os
import sys

if __name__ == "__main__":
    here = os.path.abspath(__file__)  # noqa: PTH100  pathlib costs as much as the whole start
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(here))))  # noqa: PTH120
    from engine.executors.guarding.attempt import main

    main(sys.argv[1])
