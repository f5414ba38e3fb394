"""A lock over the threads and the worker processes of one machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import weakref
from pathlib import Path


class WorkerLock:
    """To be made before the workers fork, which inherit its unlinked file; ``file`` is free for use under the lock.

    The file's lock belongs to a process and goes with it, so a worker that is killed holds up no other.
    """

    def __init__(self) -> None:
        self.file, path = tempfile.mkstemp(prefix="jaki-cds-")
        Path(path).unlink()
        self._threads = threading.Lock()  # the lock of the file does not keep threads of one process apart
        # Not at the exit of the process: threads may use it until the last moment, and it goes then by itself.
        weakref.finalize(self, os.close, self.file).atexit = False

    def __enter__(self) -> None:
        self._threads.acquire()
        fcntl.lockf(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self.file, fcntl.LOCK_UN)
        self._threads.release()
