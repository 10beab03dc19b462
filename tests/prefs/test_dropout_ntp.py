"""DropoutNTP: where responses are cut, what becomes of white space, what is dropped."""

from collections import Counter

import pytest

from mpo_lightning.data.shards.sample import packaged_tokenizer
from mpo_lightning.errors import InputError
from mpo_lightning.prefs.dropout_ntp import begun_rows, cut_place, joined, paired
from mpo_lightning.prefs.options import DropoutOptions

TEXT = (
    "The bars read figs 10, limes 9,\n  apples 5 and pears 4. The largest value is 10, at figs.\n\nFinal answer: figs"
)
CHINESE = "长方形的面积等于长乘以宽，所以面积是四十平方厘米。"


def offsets(text: str) -> list[tuple[int, int]]:
    return packaged_tokenizer().encode(text, add_special_tokens=False).offsets


@pytest.mark.parametrize("text", [TEXT, CHINESE, "a b", "word " * 50])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_cut_is_a_token_boundary_between_words_near_the_ratio(text: str, ratio: float) -> None:
    place = cut_place(text, ratio, offsets)
    assert 0 < place < len(text)
    first, second = text[:place], text[place:]
    # White space belongs to the second half, and no word is cut.
    assert not first[-1].isspace() and second.strip()
    assert not (first[-1].isascii() and first[-1].isalnum() and second[0].isascii() and second[0].isalnum())
    # The first half has the tokens that it has in the whole.
    whole, alone = (packaged_tokenizer().encode(part, add_special_tokens=False).ids for part in (text, first))
    assert whole[: len(alone)] == alone
    assert (
        abs(len(alone) / len(whole) - ratio) <= 0.5 if len(whole) < 8 else abs(len(alone) / len(whole) - ratio) < 0.12
    )


def test_ratio_zero_writes_all_of_it_anew_and_one_is_refused() -> None:
    assert cut_place(TEXT, 0, offsets) == 0
    for ratio in (1.0, -0.1):
        with pytest.raises(InputError, match="it must be at least 0 and below 1"):
            DropoutOptions(ratio)


def row(**more: object) -> dict:
    return {
        "id": "s-1",
        "source": "s",
        "root": ".",
        "image": ["a.png"],
        "prompt": "<image>\nWhich?",
        "chosen": TEXT,
        "max_tiles": 6,
        "kind": "plain",
    } | more


def test_what_cannot_be_cut_is_counted() -> None:
    counts: dict[str, Counter[str]] = {}
    rows = [row(), row(image=[]), row(chosen="word"), row(chosen="It is \ufffd and more")]
    found = list(begun_rows(iter(rows), DropoutOptions(filters=("broken_text",)), offsets, counts))
    assert len(found) == 1 and TEXT.startswith(found[0]["begun"]) and found[0]["with_image"] is False
    assert dict(counts["s"]) == {"chosen": 4, "without a picture": 1, "too short to cut": 1, "broken_text": 1}


def test_a_pair_keeps_the_seam_and_its_history() -> None:
    begun = TEXT[: cut_place(TEXT, 0.5, offsets)]
    numbers: Counter[str] = Counter()
    one = paired(
        row(begun=begun, response=" and plums 2.\n\nFinal answer: plums", response_tokens=9, seed=3, finished=True),
        DropoutOptions(),
        True,
        numbers,
    )
    assert (
        one is not None
        and one["rejected"] == begun + " and plums 2.\n\nFinal answer: plums"
        and one["chosen"] == TEXT
        and one["id"] == "s-1-ntp"
    )
    assert (
        one["rejected_meta"]["kept_characters"] == len(begun)
        and one["rejected_meta"]["seed"] == 3
        and not numbers["boundary restored"]
    )


def test_empty_and_identical_continuations_are_dropped() -> None:
    begun = TEXT[: cut_place(TEXT, 0.5, offsets)]
    numbers: Counter[str] = Counter()
    for said in ("", "  ", TEXT[len(begun) :], TEXT[len(begun) :].upper() + "!", None):
        assert paired(row(begun=begun, response=said), DropoutOptions(), True, numbers) is None
    assert dict(numbers) == {"empty": 3, "boundary restored": 0, "identical": 2}


def test_a_second_half_that_is_right_all_the_same_is_no_rejected_side() -> None:
    begun = TEXT[: cut_place(TEXT, 0.5, offsets)]
    numbers: Counter[str] = Counter()
    for said, used in ((" and plums 2.\n\nFinal answer: figs", False), (" and plums 2.\n\nFinal answer: plums", True)):
        asked = row(begun=begun, response=said, question="Which is largest?", answer="figs")
        assert (paired(asked, DropoutOptions(), True, numbers) is not None) is used
    assert numbers["right all the same"] == 1


def test_a_prompt_without_a_response_is_counted_by_its_reason() -> None:
    numbers: Counter[str] = Counter()
    failed = row(begun="The", response=None, error="f:3: the server refuses it (too long: 900)", where="f:3")
    assert paired(failed, DropoutOptions(), True, numbers) is None
    assert dict(numbers) == {"no response: the server refuses it (too long: ..)": 1}


def test_white_space_that_a_server_drops_is_put_back() -> None:
    assert joined("The bars", " read 3", "show 4") == (" show 4", True)
    assert joined("The bars", "\n\nread 3", "show 4") == ("\n\nshow 4", True)
    for said in (" show 4", ", and", "\nshow"):
        assert joined("The bars", " read 3", said) == (said, False)
    assert joined("长方形", "的面积", "的周长") == ("的周长", False)
    assert joined("", "The bars", "All bars") == ("All bars", False)
