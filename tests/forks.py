"""Work done in a process forked as the server forks its workers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

FAILED = 255


def in_a_worker(work: Callable[[], int]) -> int:
    """Forks; gives the number of the process, which ends with what the work comes to (255: an exception)."""
    with warnings.catch_warnings():
        # Newer Pythons warn of forks beside threads; what these children use was made for it.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = FAILED
        try:
            code = int(work())
        finally:
            os._exit(code)
    return child


def ended_with(*workers: int) -> list[int]:
    """What became of them; below nought: killed by that signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
