"""Faults in a real process, without a line for them in its code: Python imports this file as it starts, where this
folder is on PYTHONPATH, and so do the processes that it starts in turn.

FAULT says what happens, when, and in which process:

    SIGKILL before replace models/checkpoints/*/epoch-000003.pt in stages.train
    SIGKILL after fsync models/checkpoints/*/history.jsonl #2
    SIGKILL torn fsync models/checkpoints/*/history.jsonl
    ENOSPC before fsync models/checkpoints/*/.epoch-000003.pt.partial

The first word is SIGKILL or the name of an error; then before or after the operation, or torn: before an fsync that
finds the file without its last bytes, as it is when a process is killed within a write. Operations are fsync, replace,
rename, link and unlink. A name is relative to DVC_ROOT, or else to the folder the process started in; a folder's ends
with a slash, and links are told by where they are made. `#2` is the second such call of the process (otherwise the
first), and the words after `in` a part of its command line.

FAULT_LOG names a file that gets a line for each operation passed: process, operation, name; what differs from run to
run in a name (process numbers, digests, ids) is a `*`, so that a line serves as a pattern. A fault that strikes has a
line too, which has SIGKILL or the error as its second word.
"""

import errno
import itertools
import os
import re
import signal
import sys
from fnmatch import fnmatchcase

OPERATIONS = ("fsync", "replace", "rename", "link", "unlink", "remove")
CUT = 9  # bytes that a torn file lacks: less than any one write of ours
GRAMMAR = re.compile(
    r"(?P<what>[A-Z]+) (?P<moment>before|after|torn) (?P<operation>\w+) (?P<name>\S+)"
    r"( #(?P<nth>\d+))?( in (?P<argv>.+))?"
)
ROOT = os.path.realpath(os.environ.get("DVC_ROOT", "."))
COMMAND = sys.orig_argv
# what is used here must be the system's own, also after the operations have been wrapped
readlink, write, truncate, fstat = os.readlink, os.write, os.truncate, os.fstat


class Fault:
    """What FAULT says; `passes` is asked before and after each operation."""

    def __init__(self, text):
        said = GRAMMAR.fullmatch(text)
        if not said:
            sys.exit(f"FAULT cannot be read: {text}")
        self.what, self.moment, self.operation, self.name = (
            said["what"],
            said["moment"],
            said["operation"],
            said["name"],
        )
        self.here = (said["argv"] or "") in " ".join(COMMAND)
        self.nth, self.calls = int(said["nth"] or 1), itertools.count(1)

    def is_due(self, operation, name):
        """Whether this call is the one; asked once a call."""
        return (
            self.here and operation == self.operation and fnmatchcase(name, self.name) and next(self.calls) == self.nth
        )

    def strike(self, descriptor, log):
        if log is not None:
            write(log, f"{process()} {self.what} {self.moment} {self.operation} {self.name}\n".encode())
        if self.moment == "torn":
            # by its path, as a descriptor may be one to read from
            truncate(readlink(f"/proc/self/fd/{descriptor}"), max(0, fstat(descriptor).st_size - CUT))
        if self.what == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.what)
        raise OSError(number, os.strerror(number))


def relative(path, folder=None):
    """A path as the patterns have it: from the root, through no links but the last part; None outside of the root."""
    path = os.path.join(folder or os.getcwd(), os.fsdecode(path))
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return path[len(ROOT) + 1 :] if path.startswith(ROOT + os.sep) else None


def name_of(operation, words, options):
    """The name of the file that an operation is on; None when it is none of the project's, or is not there."""
    if operation == "fsync":
        number = words[0] if isinstance(words[0], int) else words[0].fileno()
        path = readlink(f"/proc/self/fd/{number}")
        return relative(path + "/" if os.path.isdir(path) else path)
    target = "dst_dir_fd" if operation in ("replace", "rename", "link") else "dir_fd"
    folder = options.get(target)
    folder = None if folder is None else readlink(f"/proc/self/fd/{folder}")
    path = words[0] if operation in ("unlink", "remove") else words[1]
    if operation in ("unlink", "remove") and not os.path.lexists(os.path.join(folder or "", os.fsdecode(path))):
        return None
    return relative(path, folder)


def as_pattern(name):
    name = name.replace(f".{os.getpid()}.", ".*.")
    return re.sub(r"[0-9a-f]{32,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "*", name)


def process():
    """The module or script that this process runs."""
    words = COMMAND[1:]
    return words[words.index("-m") + 1] if "-m" in words[:-1] else os.path.basename((words or ["python"])[0])


def wrap(operation, fault, log):
    original = getattr(os, operation)

    def wrapped(*words, **options):
        name = name_of(operation, words, options)
        due = fault is not None and name is not None and fault.is_due(operation, name)
        if due and fault.moment != "after":
            fault.strike(words[0], log)
        result = original(*words, **options)
        if log is not None and name is not None:
            write(log, f"{process()} {operation} {as_pattern(name)}\n".encode())
        if due and fault.moment == "after":
            fault.strike(words[0], log)
        return result

    for able in (os.supports_dir_fd, os.supports_follow_symlinks, os.supports_fd):
        if original in able:  # shutil looks there
            able.add(wrapped)
    setattr(os, operation, wrapped)


if "FAULT" in os.environ or "FAULT_LOG" in os.environ:
    listing = os.environ.get("FAULT_LOG")
    descriptor = os.open(listing, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if listing else None
    for each in OPERATIONS:
        wrap(each, Fault(os.environ["FAULT"]) if "FAULT" in os.environ else None, descriptor)
