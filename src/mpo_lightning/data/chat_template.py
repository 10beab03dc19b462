"""How turns become text, and which part of it is trained. Each family of models has its own templates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ChatTemplate:
    """One family's template.

    Attributes:
        name: its name in options and in the config of exported checkpoints.
        system_prefix: text in front of the system message.
        user_prefix: text in front of a user's turn.
        assistant_prefix: text in front of an answer; the prompt for generation ends with it.
        end: the end token of every turn, trained at the end of an answer.
        after_end: text between turns that is not trained.
        system: the system message.
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

    def turn(self, text: str) -> str:
        """A turn's text as the template puts it in."""
        return text.strip() if self.strip else text

    def prompt(self, question: str) -> str:
        """Everything in front of the answer to one question."""
        head = f"{self.system_prefix}{self.system}{self.end}{self.after_end}"
        return f"{head}{self.user_prefix}{self.turn(question)}{self.end}{self.after_end}{self.assistant_prefix}"

    def answer(self, text: str) -> str:
        """The trained text of an answer: the answer and the end token."""
        return self.turn(text) + self.end
