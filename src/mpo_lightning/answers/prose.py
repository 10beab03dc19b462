"""The option that running text means, where nothing is announced."""

import re

from mpo_lightning.answers.choices import choice_in, letter_in
from mpo_lightning.answers.extract import CONCLUSION, is_refusal, sentences
from mpo_lightning.answers.hedges import DENIAL
from mpo_lightning.answers.mentions import all_words_option
from mpo_lightning.answers.sides import UNSEEN, side_of

LISTED = re.compile(r"^[ \t]*\(?([A-H])[).:][ \t][^\n]{0,200}$", re.MULTILINE)
"""Options repeated from the question."""
CONDITION = re.compile(r"^(?:so\s+)?(?:if|when|since|as|because|although|while|given)\b[^,]*,\s*", re.IGNORECASE)


def choice_of_prose(text: str, choices: tuple[str, ...]) -> tuple[int, str, float] | None:
    """The option that running text means.

    A first line that is an option is the answer, its explanation behind it. Otherwise sentences that conclude are read first, then the first sentence of
    a short text, then the last ones backwards; of each what stands behind its condition ("if krill increased, ..."). A statement about a yes-or-no
    question affirms or denies.
    """
    if len(set(LISTED.findall(text))) > 1:
        text = LISTED.sub("\n", text).strip()
    first_line, _, rest = text.partition("\n")
    if rest.strip() and len(first_line) < 120 and (chosen := letter_in(first_line, len(choices))) and chosen[1] == "letter":
        return chosen[0], "first line", 0.9
    found = sentences(text)
    concluding = [sentence for sentence in found[:-5:-1] if CONCLUSION.search(sentence)]
    ordered = list(dict.fromkeys([*concluding, *(found[:1] if len(text) < 700 else []), *found[:-5:-1]]))
    ordered = [sentence for sentence in ordered if UNSEEN.search(sentence) or not is_refusal(sentence)]
    sides = {choice.strip().lower(): place for place, choice in enumerate(choices)}
    if set(sides) in ({"yes", "no"}, {"true", "false"}):
        return side_of(ordered, sides, is_refusal(text) and not UNSEEN.search(text)) or _first(ordered, choices)
    return _first(ordered, choices)


def _first(ordered: list[str], choices: tuple[str, ...]) -> tuple[int, str, float] | None:
    for sentence in ordered:
        if chosen := choice_in(sentence, choices):
            return chosen[0], chosen[1], min(chosen[2], 0.8)
        said = CONDITION.sub("", sentence)
        if not (len(said) < 80 and DENIAL.search(said)) and (place := all_words_option(said, choices)) is not None:
            return place, "all words", 0.65
    return None
