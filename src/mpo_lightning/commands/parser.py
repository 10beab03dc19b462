"""Argument parsers that refuse in one sentence."""

from typing import NoReturn

from mpo_lightning.errors import InputError


class RefusesInASentence:
    """A mixin for jsonargparse parsers: what they refuse becomes an InputError of one sentence instead of a page of
    options.
    """

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises InputError; a parser of a part of the options has to let others try, and raises what jsonargparse
        awaits.
        """
        if not self.exit_on_error:  # type: ignore[attr-defined]
            super().error(message, ex)  # type: ignore[misc]
        verb = self.prog.replace(" [options]", "")  # type: ignore[attr-defined]
        if verb == "mpo":
            verb = "mpo fit"  # the parser above those of fit, validate and test, which looks at the whole
        raise InputError(f"{' '.join(message.split())}; '{verb} --help' explains every option") from None
