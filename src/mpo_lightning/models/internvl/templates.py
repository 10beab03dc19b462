"""Chat templates of the InternVL models: how turns become text, and which part of it is trained.

The rendered strings and system messages come from the released models and must stay exact.
Source: InternVL at 2410d1d, `internvl_chat/internvl/conversation.py` and `train/dataset.py` (`preprocess_internlm`,
`preprocess_mpt`, `preprocess_phi3`, `preprocess_internvl2_5`), `internvl_chat_gpt_oss/internvl/` (`conversation.py`,
`preprocess_internvl3_5_gpt_oss` of `train/dataset.py`, `R1_SYSTEM_PROMPT` of `train/internvl_chat_mpo.py`).
"""

from mpo_lightning.data.chat_template import ChatTemplate

INTERNVL2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
INTERNVL2_5_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
GPT_OSS_SYSTEM = (
    "You are InternVL, a large language model trained by Shanghai AI Laboratory.\nKnowledge cutoff: 2024-06\n"
    "Current date: 2025-08-06\n\nReasoning: low\n\n# Valid channels: final. Channel must be included for every message."
)
THINKING_SYSTEM = (
    "You are an AI assistant that rigorously follows this response protocol:\n\n1. First, conduct a detailed analysis "
    "of the question. Consider different angles, potential solutions, and reason through the problem step-by-step. "
    "Enclose this entire thinking process within <think> and </think> tags.\n\n2. After the thinking section, provide "
    "a clear, concise, and direct answer to the user's question. Separate the answer from the think section with a "
    "newline.\n\nEnsure that the thinking process is thorough but remains focused on the query. The final answer "
    "should be standalone and not reference the thinking section.\n"
)

SYSTEM_MESSAGES = {"thinking": THINKING_SYSTEM}
"""System messages by name: the one that asks InternVL3.5 to think, which the released code takes from data."""


def _chatml(name: str, **changes: str | bool) -> ChatTemplate:
    marks = {f"{role}_prefix": f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")}
    return ChatTemplate(name=name, end="<|im_end|>", **marks, **({"system": INTERNVL2_SYSTEM} | changes))  # type: ignore[arg-type]


INTERNLM2_CHAT = _chatml("internlm2-chat", strip=True)
HERMES = _chatml("Hermes-2")
PHI3_CHAT = ChatTemplate(
    "phi3-chat", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", end="<|end|>", system=INTERNVL2_SYSTEM
)
INTERNVL2_5 = _chatml("internvl2_5", after_end="\n", system=INTERNVL2_5_SYSTEM)
GPT_OSS = ChatTemplate(
    "internvl3_5_gpt_oss",
    "<|start|>system<|message|>",
    "<|start|>user<|message|>",
    "<|start|>assistant",
    end="<|end|>",
    system=GPT_OSS_SYSTEM,
    answer_prefix="<|channel|>final<|message|>",
    # The released code ends an answer with <|end|> after one image and, by a slip of a loop variable, with <|return|>
    # after two.
    other_ends=("<|return|>",),
)

TEMPLATES = {one.name: one for one in (INTERNLM2_CHAT, HERMES, INTERNVL2_5, PHI3_CHAT, GPT_OSS)}
"""Chat templates by name. A new template is an entry here."""

USERS = {
    INTERNLM2_CHAT.name: "InternVL2-2B, 8B, 26B",
    HERMES.name: "InternVL2-1B, 40B, 76B",
    PHI3_CHAT.name: "InternVL2-4B",
    INTERNVL2_5.name: "InternVL2.5, 3 and 3.5 (not 3.5-20B)",
    GPT_OSS.name: "InternVL3.5-20B-A4B",
}
"""The released models that have each template."""

OF_TEXT_MODEL = {
    "qwen2": (HERMES, INTERNVL2_5),
    "llama": (INTERNLM2_CHAT, HERMES, INTERNVL2_5),
    "phi3": (PHI3_CHAT,),
    "qwen3": (INTERNVL2_5,),
    "qwen3_moe": (INTERNVL2_5,),
    "gpt_oss": (GPT_OSS,),
}
"""The templates that released models with each language model have."""

WITH_CHAT_TEMPLATE = (INTERNVL2_5.name, GPT_OSS.name)
"""Templates whose models are also served by the chat template of their folder, which may say something else.

The tokenizers of InternVL2 carry that of the language model that they were made from, which no code of InternVL reads.
"""

NEWLINE_TRAINED = ("qwen3", "qwen3_moe")
"""Language models of InternVL3.5, whose released MPO code trains the newline behind an answer's end token.

Source: `internvl_chat_gpt_oss/internvl/train/internvl_chat_mpo.py` and `trainer_dpo.py`: everything behind the first
label is the answer.
"""
