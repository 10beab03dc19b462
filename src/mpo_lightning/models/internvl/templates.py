"""Chat templates of the InternVL2 models: how turns become text, and which part of it is trained.

The rendered strings and system messages come from the released models and must stay exact.
Source: InternVL `internvl_chat/internvl/conversation.py` and `train/dataset.py` (`preprocess_internlm`,
`preprocess_mpt`, `preprocess_phi3`, `preprocess_internvl2_5`).
"""

from mpo_lightning.data.chat_template import ChatTemplate

INTERNVL2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
INTERNVL2_5_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)


def _chatml(name: str, **changes: str | bool) -> ChatTemplate:
    marks = {f"{role}_prefix": f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")}
    return ChatTemplate(name=name, end="<|im_end|>", **marks, **({"system": INTERNVL2_SYSTEM} | changes))  # type: ignore[arg-type]


TEMPLATES = {
    template.name: template
    for template in (
        _chatml("internlm2-chat", strip=True),
        _chatml("Hermes-2"),
        _chatml("internvl2_5", after_end="\n", system=INTERNVL2_5_SYSTEM),
        ChatTemplate(
            "phi3-chat", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", end="<|end|>", system=INTERNVL2_SYSTEM
        ),
    )
}
"""Chat templates by name. A new template is an entry here."""

TEMPLATE_OF_TEXT_MODEL = {"qwen2": "Hermes-2", "phi3": "phi3-chat"}
"""Template for a checkpoint whose config names none, where the language model decides it."""
