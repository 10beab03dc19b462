"""Finds yes or no, true or false: stated, or implied by a sentence that affirms or denies."""

import re

from mpo_lightning.answers.response.qualifiers import is_answer_no

YES = re.compile(r"[\s\"'*(]*(yes|no|true|false|yeah|yep|nope|none)\b", re.IGNORECASE)
SAME_AS = {"yeah": "yes", "yep": "yes", "nope": "no", "none": "no"}
TRUTH = {"true": "yes", "false": "no", "yes": "true", "no": "false"}
"""The counterpart of each word in the other pair: true where yes or no is asked."""
VERB = re.compile(
    r"(?:is|are|was|were|has|have|had|does|do|did|can|will|contains?|shows?|lies|there|features?|depicts?|displays?"
    r"|includes?|appears?|holds?|see|stands?|sits?|represents?|indicates?|means|reach(?:es)?|equals?|exceeds?|remains?"
    r"|intersects?|touch(?:es)?|increases?|decreases?|rises?|falls?|matches|belongs?|wears?|looks?|seems?|"
    r"(?:there|it|that)'s|(?:is|are|was|were|has|does|do)n't)\W*",
    re.IGNORECASE,
)
HAN_NO, HAN_YES = re.compile(r"^\W*(?:否|不|没有|没|错)"), re.compile(r"^\W*(?:是|有|对|可以|能|正确)")
BUT_YES = re.compile(r"\b(?:no\s+doubt|not\s+only|without\s+(?:a\s+)?doubt|no\s+question)\b", re.IGNORECASE)
"""Phrases that affirm with the words of a denial."""
UNSEEN = re.compile(
    r"\b(?:can\s?not|can't|do\s+not|don't|could\s?n't)\s+(?:see|find|spot|identify|detect|observe)\s+(?:a|an|any"
    r"|the)\b(?!\s+(?:image|picture|photo|figure|diagram|chart|question))",
    re.IGNORECASE,
)
"""Phrases that deny what was asked for; they are not refusals."""
SAY = re.compile(r"\b(?:not|wrong\s+to\s+say|incorrect\s+to\s+say|isn't)\s+[\"']?(yes|no|true|false)\b", re.IGNORECASE)
DENIED = re.compile(
    r"\b(?:not|no|none|neither|nobody|nothing|nowhere|never|zero|absent|missing|without|lacks?|fails?\s+to|untrue"
    r"|false|incorrect|wrong|cannot|can't|(?:is|are|do|does|did|has|have|was|were)n't)\b"
    r"|\bequal\s+to\s+(?:the\s+(?:number|value)|that)",
    re.IGNORECASE,
)
NOT_THERE = re.compile(
    r"(?:there|it|they)\s+(?:is|are)(?:n't|\s+not)\W*$|not\s+(?:in|on|visible|present|there)\b", re.IGNORECASE
)
BOTH = re.compile(r"\b(?:yes|true)\s+(?:and|or)\s+(?:no|false)\b", re.IGNORECASE)
TAIL = re.compile(
    r",?\s+(?:as|because|since|while|whereas|so\s+there\s+(?:is|are))\b(?=.*\b(?:no|not|none)\b).*$"
    r"|,\s*(?:and\s+)?not\s+.*$|\s+and\s+not\s+.*$",
    re.IGNORECASE | re.DOTALL,
)
"""A clause at the end that denies something else."""
UNCLEAR = re.compile(r"\bbut\s+(?:is\s+|are\s+)?not\b", re.IGNORECASE)
"""Affirms one thing and denies another, without saying which one was asked for."""


def is_both(said: str) -> bool:
    """Whether an announced answer says yes and no."""
    words = set(re.findall(r"\b(?:yes|no|true|false)\b", without_nouns(said.lower())[:40]))
    return len({TRUTH.get(word, word) if word in ("true", "false") else word for word in words}) > 1


def without_nouns(said: str) -> str:
    """A text without each "no" that is a count."""
    return re.sub(r"\bno\b(?=(?P<behind>.*))", lambda match: match[0] if is_answer_no(match["behind"]) else "", said)


def is_statement(sentence: str) -> bool:
    """Whether words state something: three or more, with a verb among them."""
    words = sentence.split()
    if NOT_THERE.match(sentence):
        return True
    return len(words) >= 3 and any(map(VERB.fullmatch, words))


def side_of(ordered: list[str], sides: dict[str, int], implied: bool) -> tuple[int, str] | None:
    """Finds the side that sentences take: the one named, else what the first statement affirms or denies.

    Args:
        ordered: sentences, the most informative first.
        sides: index of each option by its word.
        implied: whether statements count. They do not in a text that says it cannot answer or repeats the options.
    """
    other = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
    for sentence in ordered:
        if (said := SAY.search(sentence)) and other[said[1].lower()] in sides:
            return sides[other[said[1].lower()]], "yes or no"
        if BUT_YES.search(sentence) or BOTH.search(sentence):
            continue
        if spoken := YES.match(sentence):
            word = SAME_AS.get(spoken[1].lower(), spoken[1].lower())
            word = word if word in sides else TRUTH[word]
            if word in sides and (word != "no" or is_answer_no(sentence[spoken.end() :])):
                return sides[word], "yes or no"
    for sentence in ordered[:1]:
        for pattern, words_of_side in ((HAN_NO, {"no", "false"}), (HAN_YES, {"yes", "true"})):
            if pattern.match(sentence):
                return sides[next(iter(words_of_side & set(sides)))], "yes or no"
    ordered = [BUT_YES.sub(" ", sentence) for sentence in ordered]
    for sentence in ordered:
        named = re.finditer(r"\b(?:" + "|".join(sides) + r")\b", sentence.lower())
        words = {match[0] for match in named if match[0] != "no" or is_answer_no(sentence[match.end() :])}
        if len(words) == 1:
            return sides[words.pop()], "yes or no"
    for sentence in ordered:
        statement = TAIL.sub("", sentence)
        if UNCLEAR.search(statement):
            return None
        unseen = UNSEEN.search(statement)
        if implied and (is_statement(statement) or unseen) and not statement.endswith(("?", ":", ",")):
            wanted = {"no", "false"} if DENIED.search(statement) or unseen else {"yes", "true"}
            return sides[next(iter(wanted & set(sides)))], "statement"
    return None
