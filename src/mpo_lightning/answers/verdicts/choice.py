"""The verdict on a choice: which option a response means."""

import re

from mpo_lightning.answers.question import LETTERS, Extraction, Question, Verdict, named_option
from mpo_lightning.answers.response import choices as options
from mpo_lightning.answers.response.extract import announced, is_refusal, last_line
from mpo_lightning.answers.response.mentions import LONE_LETTER, marked_option, mentioned_options
from mpo_lightning.answers.response.prose import choice_of_prose, is_listing
from mpo_lightning.answers.response.qualifiers import EXCEPT, is_bound, offers_alternative, without_cause
from mpo_lightning.answers.response.yes_no import BUT_YES, is_both
from mpo_lightning.answers.values.numbers import parse_number
from mpo_lightning.answers.values.words import words_of

NO_SIDE = re.compile(r"\bnot\s+[\"']?(?:yes|no|true|false)\b", re.IGNORECASE)


def choice_verdict(text: str, question: Question) -> Verdict:
    """Decides on the option that a response means."""
    if len(question.choices) == 2:
        text = BUT_YES.sub(" ", text)
    said = announced(text)
    if said and not LONE_LETTER.fullmatch(said.text) and (several := _several_options(said.text, question.choices)):
        return Verdict(None, said.text, None, f"{said.rule}/{several}")
    found = options.choice_in(said.text, question.choices) if said else None
    if said and not found:
        found = choice_of_prose(said.text, question.choices)
    if (
        found is None
        and said
        and (said.rule == "boxed" or options.is_formula(said.text) or options.LETTER_LIST.fullmatch(said.text))
    ):
        # A definite answer that is none of the options: whatever else the text mentions is not the answer.
        return Verdict(None, said.text, None, f"{said.rule}/none of the options")
    if found is None:
        said = last_line(text)
        found = options.choice_in(said.text, question.choices) if said else None
    if found is None:
        said = None
        if len(text) < 200 and not is_listing(text) and marked_option(text, len(question.choices)) is None:
            found = options.choice_in(text, question.choices)
        found = found or choice_of_prose(text, question.choices)
    if found is None:
        if is_refusal(text):
            return Verdict(False, "", None, "refusal")
        return Verdict(None, said.text if said else "", None, "no option found")
    place, rule = found
    gold = gold_choice(question)
    if rule == "letter against text" and place == gold:
        return Verdict(None, said.text if said else "", None, rule)
    right = None if gold is None else place == gold or _same_option(question.choices[place], question.choices[gold])
    source = said or Extraction(question.choices[place], "prose")
    return Verdict(
        right,
        source.text,
        LETTERS[place],
        f"{source.rule}/{rule}",
    )


def _several_options(said: str, choices: tuple[str, ...]) -> str | None:
    """Why an announced answer does not settle on one option, such as "B, or possibly A"; None if it does."""
    if any(words_of(said) == words_of(choice) for choice in choices):
        return None
    if (listed := options.LETTER_LIST.match(said)) and said[listed.end() : listed.end() + 1] in ("", " ", "\n"):
        return "one of several"
    if EXCEPT.search(said):
        return "all but one"
    if set(map(words_of, choices)) <= {"yes", "no", "true", "false"}:
        return "both sides" if is_both(said) else "denied" if NO_SIDE.search(said) else None
    if all(map(parse_number, choices)) and is_bound(said):
        return "bound"
    if not offers_alternative(said) and not options.EITHER.search(said):
        return None
    bare = without_cause(said)
    letters = set(options.NAMED_LETTER.findall(bare)) & set(LETTERS[: len(choices)])
    return "one of several" if len(letters) > 1 or len(mentioned_options(bare, choices)) > 1 else None


def _same_option(one: str, other: str) -> bool:
    """Whether two options have the same words, as in data sets that repeat an option. "Ff" is not "FF"."""
    return one.strip() == other.strip() or (len(one) > 3 and words_of(one) == words_of(other))


def gold_choice(question: Question) -> int | None:
    """The index of the right option; None if the right answer is not among the options."""
    return named_option(question.gold, question.choices)
