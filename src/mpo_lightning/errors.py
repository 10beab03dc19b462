"""The two kinds of bad input: one that stops a command, and one that concerns a single record."""


class InputError(ValueError):
    """What the user gave cannot be used. The message is one sentence: what, where, and the way out."""


class BadRecord(ValueError):
    """One record cannot be used. The message is the reason; the caller knows which record it was.

    In strict mode the caller turns it into an `InputError`; in quarantine mode it writes the reason down and counts it.
    """
