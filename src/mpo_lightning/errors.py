"""What ends a command with one sentence: bad input, of a command or of a single record, and a run that lost one of its
processes.
"""


class InputError(Exception):
    """What the user gave cannot be used. The message is one sentence: what, where, and the way out.

    Not a ValueError: those are taken for a value of the wrong type by the parsers of arguments and of JSON.
    """


class BadRecord(ValueError):
    """One record cannot be used. The message is the reason; the caller knows which record it was.

    In strict mode the caller turns it into an `InputError`; in quarantine mode it writes the reason down and counts it.
    """


class LostRank(Exception):
    """Another process of the run ended or does not answer. The message is one sentence."""
