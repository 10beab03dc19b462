"""Turns conversations into text and defines which part is trained. Each model family has its own templates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a model family.

    Attributes:
        name: its name in options and in the config of exported checkpoints.
        system_prefix: text before the system message.
        user_prefix: text before a user turn.
        assistant_prefix: text before an answer; the prompt for generation ends with it.
        end: end token of every turn; it is trained at the end of an answer.
        after_end: text between turns that is not trained.
        system: system message; without one, there is no system turn.
        strip: whether the white space around a turn is removed.
    """

    name: str
    system_prefix: str
    user_prefix: str
    assistant_prefix: str
    end: str
    after_end: str = ""
    system: str = ""
    strip: bool = False

    @property
    def head(self) -> str:
        """The text before the first user turn."""
        return f"{self.system_prefix}{self.system}{self.end}{self.after_end}" if self.system else ""

    def turn(self, text: str) -> str:
        """The text of a turn as the template inserts it."""
        return text.strip() if self.strip else text

    def prompt(self, question: str) -> str:
        """The text before the answer to a question."""
        return f"{self.head}{self.user_prefix}{self.turn(question)}{self.end}{self.after_end}{self.assistant_prefix}"

    def answer(self, text: str) -> str:
        """The trained text of an answer: the answer and the end token."""
        return self.turn(text) + self.end
