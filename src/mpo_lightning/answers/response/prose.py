"""Finds the option that running text means if no answer is announced."""

import re

from mpo_lightning.answers.response.choices import choice_in, is_formula, letter_in
from mpo_lightning.answers.response.extract import CONCLUSION, SHORT, is_refusal, sentences
from mpo_lightning.answers.response.mentions import all_words_option, marked_option, mentioned_options
from mpo_lightning.answers.response.number import number_in
from mpo_lightning.answers.response.qualifiers import DENIAL, EITHER, is_denied
from mpo_lightning.answers.response.yes_no import UNSEEN, side_of
from mpo_lightning.answers.values.numbers import parse_number

LISTED = re.compile(r"^[ \t]*\(?([A-J])[).:][ \t][^\n]{0,200}$", re.MULTILINE)
"""Options repeated from the question."""
HEAD = re.compile(
    r",?\s+(?:while|whereas|compared\s+(?:to|with)|followed\s+by|than|because|since|rather\s+than|instead\s+of"
    r"|so\s+that)\b",
    re.IGNORECASE,
)
"""Words that introduce what the subject is compared with."""
RESULT = re.compile(r"\b(?:is|are|was|be|becomes|(?<!anything )but)\b", re.IGNORECASE)
SUPPOSED = re.compile(r"\b(?:might|could|may)\b", re.IGNORECASE)
CONDITION = re.compile(r"^(?:so\s+)?(?:if|when|since|as|because|although|while|given)\b[^,]*,\s*", re.IGNORECASE)


def is_listing(text: str) -> bool:
    """Whether a text goes through several options line by line."""
    return len(set(LISTED.findall(text))) > 1


def choice_of_prose(text: str, choices: tuple[str, ...]) -> tuple[int, str] | None:
    """Finds the option that running text means.

    A first line that is an option is the answer, followed by its explanation. Otherwise the concluding sentences are
    read first, then the first sentence of a short text, then the last ones backwards. A leading condition ("if krill
    increased, ...") may be dropped. In a yes-or-no question, a statement affirms or denies.
    """
    if (marked := marked_option(text, len(choices))) is not None:
        return marked, "marked"
    if echoed := is_listing(text):
        text = LISTED.sub("\n", text).strip()
    first_line, _, rest = text.partition("\n")
    if (
        rest.strip()
        and len(first_line) < 120
        and (chosen := letter_in(first_line, len(choices)))
        and chosen[1] == "letter"
    ):
        return chosen[0], "first line"
    found = sentences(text)
    concluding = [sentence for sentence in found[:-5:-1] if CONCLUSION.search(sentence)]
    first = found[:1] if len(text) < SHORT else []
    ordered = list(dict.fromkeys([*concluding, *first, *found[:-5:-1], *found[:2]]))
    if not first:  # in a long text, what is only supposed comes last
        ordered.sort(key=lambda sentence: SUPPOSED.search(sentence) is not None)
    ordered = [sentence for sentence in ordered if UNSEEN.search(sentence) or not is_refusal(sentence)]
    sides = {choice.strip().lower(): place for place, choice in enumerate(choices)}
    if set(sides) in ({"yes", "no"}, {"true", "false"}):
        refused = is_refusal(text) and not UNSEEN.search(text)
        return side_of(ordered, sides, implied=not refused and not echoed) or _first(ordered, choices)
    return _first(ordered, choices)


def _of_several(sentence: str, choices: tuple[str, ...]) -> tuple[int, str] | None:
    """The option that a sentence with several settles on: its value, its subject, or what follows its last "is" or
    "but".
    """
    number = number_in(sentence)
    if number is not None:
        same = [
            place
            for place, choice in enumerate(choices)
            if (value := parse_number(choice)) is not None and value.value == number.value
        ]
        if len(same) == 1:
            return same[0], "value"
    if "=" in sentence and (chosen := choice_in(sentence.rsplit("=", 1)[1].strip(" .$"), choices)):
        return chosen[0], "value"
    head = HEAD.split(sentence)[0]
    if head != sentence and len(found := mentioned_options(head, choices)) == 1:
        return found[0], "subject"
    last = list(RESULT.finditer(sentence))[-1:]
    if last and not is_denied(sentence[max(0, last[0].start() - 25) : last[0].start()]):
        found = mentioned_options(sentence[last[0].end() :], choices)
        return (found[0], "complement") if len(found) == 1 else None
    return None


def _first(ordered: list[str], choices: tuple[str, ...]) -> tuple[int, str] | None:
    for sentence in ordered:
        if chosen := choice_in(sentence, choices):
            return chosen[0], chosen[1]
        said = CONDITION.sub("", sentence)
        if (
            not is_formula(sentence)
            and not EITHER.search(sentence)
            and (chosen := (choice_in(said, choices) if said != sentence else None) or _of_several(said, choices))
        ):
            return chosen
        if not (len(said) < 80 and DENIAL.search(said)) and (place := all_words_option(said, choices)) is not None:
            return place, "all words"
    return None
