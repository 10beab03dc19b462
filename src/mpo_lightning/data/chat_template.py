"""Turns conversations into text and defines which part is trained. Each model family has its own templates."""

from dataclasses import dataclass, replace
from typing import Any

from mpo_lightning.data.records import checked_system
from mpo_lightning.errors import BadRecord, InputError


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a model family.

    Attributes:
        name: its name in options and in the config of exported checkpoints.
        system_prefix: text before the system message.
        user_prefix: text before a user turn.
        assistant_prefix: text before an answer; the prompt for generation ends with it.
        end: end token of every turn; it is trained at the end of an answer.
        after_end: text between turns.
        system: the template's own system message; without one, there is no system turn.
        strip: whether the white space around a turn is removed.
        answer_prefix: text that a model writes before every answer, such as the name of a channel; it is trained.
        other_ends: further tokens that end a response.
        trained_newline: whether `after_end` is trained behind an answer, as the released code of InternVL3.5 does.
        other_system: system message in place of the template's own; "" leaves the system turn out, None keeps it.
    """

    name: str
    system_prefix: str
    user_prefix: str
    assistant_prefix: str
    end: str
    after_end: str = ""
    system: str = ""
    strip: bool = False
    answer_prefix: str = ""
    other_ends: tuple[str, ...] = ()
    trained_newline: bool = False
    other_system: str | None = None

    @property
    def system_message(self) -> str:
        """The system message of every prompt; "" if there is no system turn."""
        return self.system if self.other_system is None else self.other_system

    def with_system(self, message: str) -> "ChatTemplate":
        """Returns the template with this system message; "" leaves the system turn out."""
        return replace(self, other_system=None if message == self.system else message)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the text of a prompt and an answer, for the record of a run.

        A template as its family defines it is its name alone.
        """
        return (
            {"template": self.name}
            | ({} if self.other_system is None else {"system_message": self.other_system})
            | ({"trained_newline": True} if self.trained_newline else {})
        )

    @property
    def head(self) -> str:
        """The text before the first user turn."""
        return self.head_with(self.system_message)

    def head_with(self, system: str) -> str:
        """The text before the first user turn with this system message."""
        return f"{self.system_prefix}{system}{self.end}{self.after_end}" if system else ""

    @property
    def ends(self) -> tuple[str, ...]:
        """The tokens that end a response; the trained one comes first."""
        return (self.end, *self.other_ends)

    def turn(self, text: str) -> str:
        """The text of a turn as the template inserts it."""
        return text.strip() if self.strip else text

    def prompt(self, question: str, system: str | None = None) -> str:
        """The text before the answer to a question.

        Args:
            question: the user's turn.
            system: system message of this prompt alone; None takes `system_message`.
        """
        head = self.head if system is None else self.head_with(system)
        return f"{head}{self.user_prefix}{self.turn(question)}{self.end}{self.after_end}{self.assistant_prefix}"

    def answer(self, text: str) -> str:
        """The trained text of an answer: what comes before every answer, the answer and the end token."""
        return self.begun(self.turn(text)) + self.end + (self.after_end if self.trained_newline else "")

    def begun(self, text: str) -> str:
        """The text of an answer that has begun, as it stands behind a prompt."""
        return self.answer_prefix + (text.lstrip() if self.strip else text)


NAMED_SYSTEMS = ("auto", "none", "default", "thinking", "chat_template")
"""What a system message of the options may be other than a text."""


@dataclass(frozen=True)
class PromptChoice:
    """What the options say of a checkpoint's prompt; "auto" takes what the checkpoint's files say.

    Attributes:
        template: name of a chat template, or "auto".
        system_message: "none", "default" (the template's own), "thinking", "chat_template" (what the folder's chat
            template says), the text itself, or "auto".
        trained_newline: whether the newline behind an answer's end token is trained; None follows the model.

    Raises:
        InputError: a system message that is no text, looks like one of the names, or has a reserved mark.
    """

    template: str = "auto"
    system_message: str = "auto"
    trained_newline: bool | None = None

    def __post_init__(self) -> None:
        told, names = self.system_message, ", ".join(NAMED_SYSTEMS)
        if not isinstance(told, str) or (told not in NAMED_SYSTEMS and told.lower() in (*NAMED_SYSTEMS, "null", "")):
            raise InputError(f"system_message is {told!r}; give one of {names}, or the text itself")
        try:
            checked_system(told)
        except BadRecord as error:
            raise InputError(f"system_message: {error}") from None
