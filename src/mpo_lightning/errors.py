"""What ends a command with one sentence: bad input, of a command or of a single record, and a run that lost one of its processes."""

from typing import NoReturn


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


class RefusesInASentence:
    """For an argument parser of jsonargparse, before its class: what it refuses is an InputError, without a page of every option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises InputError; a parser of a part of the options has to let others try, and raises what jsonargparse awaits."""
        if not self.exit_on_error:  # type: ignore[attr-defined]
            super().error(message, ex)  # type: ignore[misc]
        verb = self.prog.replace(" [options]", "")  # type: ignore[attr-defined]
        if verb == "mpo":
            verb = "mpo fit"  # the parser above those of fit, validate and test, which looks at the whole
        raise InputError(f"{' '.join(message.split())}; '{verb} --help' explains every option") from None
