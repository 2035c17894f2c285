"""One process at a time writes into a folder of results."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from seethrough.errors import InputError

FILE = ".lock"
"""Stays in the folder, and says which process wrote there last."""

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that knows no locks: there the folder is used without one."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made, for the length of the block.

    The operating system holds the lock for this process, so it is free as soon as the process
    ends, however it ends.

    Raises:
        InputError: when another process holds it, or it can't be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+")
    except OSError as error:
        raise InputError(
            f"--out={folder}: no results can be written there ({error.strerror}): choose another"
            " folder, or make this one writable"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise InputError(
                f"--out={folder}: {who} is writing there: wait until it is done, or choose another"
                " folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        # Only a courtesy to whoever comes second: a full disk is told where results are written.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield
