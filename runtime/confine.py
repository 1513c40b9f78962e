"""What a runner gives up for good: network, new programs, writing files, reading others' files.

seccomp (Linux 3.17) refuses sockets that are not local, new programs and debugging; Landlock
(Linux 5.13) refuses to open files for writing, and to read any but the model's and the system's.
Both are the process's own choice and need no privileges. Where the kernel lacks one, the runner
works without; `describe` says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_AF_UNIX = 1
# (audit architecture, socket, ptrace, execve, execveat) by machine.
_SYSCALLS = {
    "x86_64": (0xC000003E, 41, 101, 59, 322),
    "aarch64": (0xC00000B7, 198, 117, 221, 281),
}
# System calls that are numbered alike on all machines. Through a ring of io_uring (Linux 5.1) the
# kernel opens sockets without asking the filter.
_IO_URING_SETUP = 425
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# WRITE_FILE, REMOVE_DIR … MAKE_SYM; TRUNCATE came with ABI 3, REFER with 2.
_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/opt", "/nix", "/etc", "/proc", "/sys", "/run")
_MAX_FILES = 256


def give_up_privileges() -> None:
    """No core dumps, no debugger, no new privileges; Ctrl-C in the terminal is the parent's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_MAX_FILES, hard), hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        _die_first()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def limit(*, address_space: int, cpu_seconds: int) -> None:
    """Bound the process's address space in bytes and its CPU time; 0 is no bound."""
    if address_space:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    if cpu_seconds:
        # The soft limit's signal (SIGXCPU) says what it was; the hard one's (SIGKILL) does not.
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 10))


def confine(files: Iterable[Path], *, writable: Path | None = None) -> None:
    """Give up network, new programs, and all files but the system's and these, for this thread.

    Files may be written in the one folder that is `writable`.

    Threads that it starts later inherit it. Needs `give_up_privileges` before.
    """
    if sys.platform.startswith("linux"):
        _restrict_files(files, writable)
        _filter_system_calls()


def describe() -> dict[str, bool]:
    """What of it this kernel offers."""
    return {
        "seccomp": platform.machine() in _SYSCALLS and Path("/proc/sys/kernel/seccomp").exists(),
        "landlock": _landlock_version() > 0,
    }


def _die_first() -> None:
    """Where memory runs out, let the kernel end this process and not the server."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _filter_system_calls() -> bool:
    known = _SYSCALLS.get(platform.machine())
    if known is None:
        return False
    architecture, socket_call, *refused = known
    load, equal, done = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    above = 0x35  # BPF_JMP|JGE|K
    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (done, 0, 0, _REFUSE)]
    # The call's number; those of the x32 ABI would slip past the comparisons.
    code += [(load, 0, 0, 0), (above, 0, 1, 0x40000000), (done, 0, 0, _REFUSE)]
    for number in (*refused, _IO_URING_SETUP):
        code += [(equal, 0, 1, number), (done, 0, 0, _REFUSE)]
    code += [(equal, 0, 3, socket_call), (load, 0, 0, 16), (equal, 1, 0, _AF_UNIX)]
    code += [(done, 0, 0, _REFUSE), (done, 0, 0, _ALLOW)]
    program = b"".join(struct.pack("HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)
    return result == 0


def _restrict_files(files: Iterable[Path], writable: Path | None) -> bool:
    version = _landlock_version()
    if version < 1:
        return False
    writes = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    reads = _READ_FILE | _READ_DIR
    handled = struct.pack("Q", writes | reads)
    libc = ctypes.CDLL(None, use_errno=True)
    ruleset = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    try:
        for path in _readable():
            _allow(libc, ruleset, path, reads)
        for path in files:
            _allow(libc, ruleset, path, _READ_FILE)
        if writable is not None:
            _allow(libc, ruleset, writable, writes | reads)
        # Graphics processors are driven through files here.
        _allow(libc, ruleset, Path("/dev"), writes | reads)
        result: int = libc.syscall(_RESTRICT_SELF, ruleset, 0)
        return result == 0
    finally:
        os.close(ruleset)


def _readable() -> set[Path]:
    """Where programs and libraries of this interpreter lie."""
    own = [sys.prefix, sys.base_prefix, os.path.dirname(sys.executable), *sys.path]
    ours = [str(Path(__file__).resolve().parent.parent)]
    names = [*_SYSTEM, *own, *ours, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    names.append(os.environ.get("LLAMA_CPP_LIB_PATH", ""))
    return {Path(name) for name in names if name}


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            access &= _READ_FILE | (1 << 1) | _TRUNCATE
        rule = struct.pack("=Qi", access, descriptor)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _landlock_version() -> int:
    if not sys.platform.startswith("linux"):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))
