"""Prompts of each kind of reasoning, as text files in English and Chinese that users can edit.

    plain         step by step                                      (the paper's text)
    background    the knowledge behind the question first           (science)
    visual        what the image shows first                        (charts, OCR, documents)
    grounded      where in the image everything is                  (general questions)

The paper names the last three (section 3.2) but does not print them; their texts are ours. A file KIND.LANGUAGE.txt
holds `{question}` once. A user's folder may replace some of the package's files or add kinds.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mpo_lightning.data.prompts import without_hint
from mpo_lightning.errors import InputError

AS_ASKED = "as_asked"
"""The kind of prompt that leaves a question as it is."""

LANGUAGES = ("en", "zh")
HAN = re.compile(r"[\u4e00-\u9fff]")
MARK = "{question}"


@dataclass(frozen=True)
class PromptFiles:
    """The texts of all kinds of prompt.

    Attributes:
        texts: prompt texts by kind and language.
    """

    texts: dict[tuple[str, str], str]

    @property
    def version(self) -> str:
        """A hash of the texts, which changes with every edit."""
        return hashlib.sha256(repr(sorted(self.texts.items())).encode()).hexdigest()[:12]

    @property
    def kinds(self) -> list[str]:
        """Names of the known kinds of prompt."""
        return sorted({kind for kind, _ in self.texts} | {AS_ASKED})

    def ask(self, question: str, kind: str) -> str:
        """Returns the prompt for a question, in the question's language.

        Raises:
            InputError: the kind is unknown.
        """
        if kind == AS_ASKED:
            return question
        language = language_of(question)
        text = self.texts.get((kind, language)) or self.texts.get((kind, "en"))
        if text is None:
            raise InputError(f"there is no prompt of kind '{kind}'; known are {', '.join(self.kinds)}")
        return text.replace(MARK, without_hint(question))


def read_prompt_files(folder: Path | None = None) -> PromptFiles:
    """Reads the package's texts and those of a folder, which replace or extend them.

    Raises:
        InputError: a file's name or text cannot be used.
    """
    texts: dict[tuple[str, str], str] = {}
    folders = [Path(__file__).parent / "prompts", *([folder] if folder else [])]
    for place in folders:
        files = sorted(place.glob("*.txt")) if place.is_dir() else []
        if not files:
            raise InputError(f"{place}: holds no prompt file; add a file KIND.LANGUAGE.txt that holds {MARK} once")
        for path in files:
            kind, _, language = path.stem.rpartition(".")
            text = path.read_text(encoding="utf-8").strip("\n")
            if not kind or language not in LANGUAGES or text.count(MARK) != 1:
                raise InputError(f"{path}: a prompt file must be named KIND.en.txt or KIND.zh.txt and hold {MARK} once")
            texts[kind, language] = text
    return PromptFiles(texts)


def language_of(text: str) -> str:
    """Returns "zh" if more than a fifth of the letters are Chinese, else "en"."""
    chinese = han(text)
    return "zh" if chinese and chinese / sum(map(str.isalpha, text)) > 0.2 else "en"


def han(text: str) -> int:
    """Counts the Chinese characters in a text."""
    return 0 if text.isascii() else len(HAN.findall(text))
