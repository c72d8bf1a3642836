"""Swapping two paths in one step, where the system can."""

import ctypes
import errno
import os
import sys
from pathlib import Path

# None of these says that something is amiss with the paths.
CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux: fcntl.h, linux/fs.h
RENAME_SWAP = 2  # macOS: stdio.h


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths that both exist: at no instant is either absent.

    Returns False, with nothing changed, where the system or the file system has no such call.

    Raises:
        OSError: the system refused it.
    """
    names = os.fsencode(one), os.fsencode(other)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(*names, ctypes.c_uint(RENAME_SWAP))
        else:
            flags = ctypes.c_uint(RENAME_EXCHANGE)
            failed = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags)
    except AttributeError:  # the C library has no such function
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
