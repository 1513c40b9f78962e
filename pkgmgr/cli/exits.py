"""Exit codes: one table for the whole program. What each error *is* stands in the error itself.

0 done, 1 failed, 2 usage, 3 not found, 4 integrity, 5 network or auth, 130 interrupted, and 141
where the reader of our output went away (what a program that SIGPIPE ends gives its shell).
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import errors

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
INTEGRITY = 4
NETWORK = 5
INTERRUPTED = 130
BROKEN_PIPE = 141

# A class without a row of its own takes that of its nearest base. Every class needs one below
# `PannierError`: tests/pkgmgr/cli/test_exits.py walks them all.
EXIT_CODES: Mapping[type[errors.PannierError], int] = {
    errors.InvalidInput: USAGE,
    errors.NotFound: NOT_FOUND,
    errors.IntegrityError: INTEGRITY,
    errors.ManifestError: INTEGRITY,
    errors.TransferError: NETWORK,
    errors.StoreBusy: FAILED,
    errors.NoSpace: FAILED,
    errors.Cancelled: INTERRUPTED,
}


def exit_code(
    error: errors.PannierError, table: Mapping[type[errors.PannierError], int] = EXIT_CODES
) -> int:
    """What the process exits with for an error: the row of its class or of its nearest base."""
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return FAILED
