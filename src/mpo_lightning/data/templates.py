"""The chat templates of the InternVL2 families: how turns become text, and which part of it is trained.

The rendered strings and the system messages are facts of the released models and must stay exact.
Source: InternVL `internvl_chat/internvl/conversation.py` and `train/dataset.py` (`preprocess_internlm`, `preprocess_mpt`,
`preprocess_phi3`, `preprocess_internvl2_5`).
"""

from dataclasses import dataclass

from mpo_lightning.errors import InputError

INTERNVL2_SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
INTERNVL2_5_SYSTEM = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"


@dataclass(frozen=True)
class ChatTemplate:
    """One family's template.

    Attributes:
        name: the name that InternVL gives it (`template` in the original config.json).
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
    system: str = INTERNVL2_SYSTEM
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


def _chatml(name: str, **changes: str | bool) -> ChatTemplate:
    marks = {f"{role}_prefix": f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")}
    return ChatTemplate(name=name, end="<|im_end|>", **marks, **changes)  # type: ignore[arg-type]


TEMPLATES = {
    template.name: template
    for template in (
        _chatml("internlm2-chat", strip=True),
        _chatml("Hermes-2"),
        _chatml("internvl2_5", after_end="\n", system=INTERNVL2_5_SYSTEM),
        ChatTemplate("phi3-chat", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|end|>"),
    )
}


def get_template(name: str) -> ChatTemplate:
    """The template of that name. Raises InputError for an unknown one."""
    if name not in TEMPLATES:
        raise InputError(f"unknown chat template '{name}'; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]
