"""Errors that end a command with one sentence: bad input, a bad record, and a lost process of a run."""


class InputError(Exception):
    """The user's input cannot be used. The message is one sentence: what, where, and the way out.

    It is not a ValueError, which parsers of arguments and of JSON take for a value of the wrong type.
    """


class BadRecord(ValueError):
    """One record cannot be used. The message is the reason; the caller knows the record.

    In strict mode the caller raises an `InputError`; in quarantine mode it skips, lists and counts the record.
    """


class LostRank(Exception):
    """Another process of the run has ended or does not answer. The message is one sentence."""
