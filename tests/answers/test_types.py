"""What type a right answer has, and answers of each type that are the same and that are not."""

import pytest

from mpo_lightning.answers import Kind, Question, check, equivalent
from mpo_lightning.answers.typed import Type, type_of


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("", Type.NOTHING),
        ("....", Type.NOTHING),
        ("**", Type.NOTHING),
        ("The answer", Type.NOTHING),
        ("$\\{\\}$", Type.FORMULA),
        (">", Type.FORMULA),
        ("17", Type.NUMBER),
        ("17 km/h", Type.NUMBER),
        ("$3.20$ dollars", Type.NUMBER),
        ("seventeen", Type.NUMBER),
        ("7 - 9", Type.PARTS),
        ("8:05", Type.PARTS),
        ("5:6:7", Type.PARTS),
        ("1999-12-31", Type.PARTS),
        ("4/8", Type.PARTS),
        ("4/9", Type.NUMBER),
        ("3xy", Type.FORMULA),
        ("x", Type.FORMULA),
        ("2\\sqrt{7} cm", Type.FORMULA),
        ("(4, -1)", Type.FORMULA),
        ("sin x", Type.FORMULA),
        ("cot", Type.FORMULA),
        ("pot", Type.WORDS),
        ("C6H12", Type.WORDS),
        ("K9", Type.WORDS),
        ("\\angle PQR", Type.WORDS),
        ("\\text{even}", Type.WORDS),
        ("no solution", Type.WORDS),
    ],
)
def test_the_type_of_a_right_answer(gold: str, kind: Type) -> None:
    assert type_of(gold) is kind


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("1990-1995", "1990 to 1995"),
        ("1990-1995", "from 1990 to 1995"),
        ("6-8", "between 6 and 8"),
        ("8:05", "08:05"),
        ("8:05 PM", "20:05"),
        ("8:30", "half past eight"),
        ("7:45", "quarter to 8"),
        ("2:3:5", "4:6:10"),
        ("7:2", "7/2"),
        ("2019-11-05", "5 November 2019"),
        ("2019-11-05", "Nov. 5, 2019"),
        ("2019-11-05", "2019/11/5"),
        ("May 2011", "May, 2011"),
        ("$5-$9", "$5 to $9"),
        ("15%-20%", "15% - 20%"),
    ],
)
def test_joined_numbers_are_the_same_part_by_part(gold: str, said: str) -> None:
    assert equivalent(gold, said) is True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("1990-1995", "1995-1990"),
        ("6-8", "-2"),
        ("6-8", "7-9"),
        ("6:00", "3:00"),
        ("8:05 PM", "8:05 AM"),
        ("2:3:5", "3:2:5"),
        ("2:6", "1:30"),
        ("2019-11-05", "2019-05-11"),
        ("2019-11-05", "5 November 2018"),
        ("5-2", "2-5"),
        ("555-1234", "555-4321"),
        ("8:40", "4:20"),  # a ratio, or another time
    ],
)
def test_joined_numbers_are_not_computed(gold: str, said: str) -> None:
    assert equivalent(gold, said) is not True


@pytest.mark.parametrize(("gold", "said"), [("03/04/2019", "4 March 2019"), ("8:05", "8:05 PM"), ("12", "12:1")])
def test_what_may_be_meant_either_way_is_left_open(gold: str, said: str) -> None:
    assert equivalent(gold, said) is None


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("lion", "the lion"),
        ("lion", "It is a lion"),
        ("lion", "The animal is a lion"),
        ("Oslo", "\\text{Oslo}"),
        ("east", "due east"),
        ("rise", "rises"),
        ("MgO", "\\ce{MgO}"),
        ("MgO", "\\mathrm{MgO}"),
        ("\\angle PQR", "∠RQP"),
        ("\\triangle PQR", "triangle RPQ"),
        ("MN", "segment NM"),
        ("A. left", "A"),
        ("A. left", "left"),
        ("Option D", "D"),
    ],
)
def test_words_are_the_same(gold: str, said: str) -> None:
    assert equivalent(gold, said) is True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("lion", "tiger"),
        ("saw", "was"),
        ("pot", "top"),
        ("NaCl", "ClNa"),
        ("D7", "7D"),
        ("\\angle PQR", "\\angle QPR"),
        ("lion", "not a lion"),
        ("lion", "a lion and a tiger"),
        ("lion", "near the lion"),
        ("rise", "fall"),
        ("west", "south-west"),
    ],
)
def test_words_are_not_products_of_letters(gold: str, said: str) -> None:
    assert equivalent(gold, said) is not True
    assert check(f"Final answer: {said}", Question(Kind.TEXT, gold)).correct is not True


@pytest.mark.parametrize(("gold", "said"), [("lion", "lions and tigers"), ("Saturday", "Sat"), ("lion", "狮子")])
def test_a_part_an_abbreviation_or_another_script_is_left_open(gold: str, said: str) -> None:
    assert equivalent(gold, said) is None


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("(5,6)", "x=5, y=6"),
        ("(5,6)", "y=6, x=5"),
        ("(5,6)", "P(5,6)"),
        (r"\begin{pmatrix}5&6\\7&8\end{pmatrix}", "[[5,6],[7,8]]"),
        (r"(-\infty,0)\cup(4,\infty)", "x<0 or x>4"),
        ("$x=4$ or $x=-4$", r"\pm 4"),
        (r"\binom{n}{2}", "n(n-1)/2"),
        ("x**3-1", "x^3-1"),
        ("{5 \\over 6}", "5/6"),
        (r"\log_2 7", "log2(7)"),
        (r"7\sqrt{5}", "7 root 5"),
        ("θ", r"\theta"),
        (r"0.2\overline{3}", "0.2333..."),
    ],
)
def test_formulas_in_other_forms(gold: str, said: str) -> None:
    assert equivalent(gold, said) is True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("(5,6)", "x=6, y=5"),
        ("(5,6)", "5 and 6"),
        ("(5,6)", "{5,6}"),
        ("5, 6", "(5, 6)"),
        (r"\begin{pmatrix}5&6\\7&8\end{pmatrix}", r"\begin{pmatrix}6&5\\7&8\end{pmatrix}"),
        (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", "[[2,1],[4,3]]"),
        ("(5,6]", "{5,6}"),
        ("7", "7, \\ldots"),
    ],
)
def test_structures_keep_what_they_are(gold: str, said: str) -> None:
    assert equivalent(gold, said) is not True


@pytest.mark.parametrize(
    ("gold", "said"),
    [("½", "0.5"), ("3½", "7/2"), ("5⁻²", "0.04"), ("√19", r"\sqrt{19}"), ("∛7", r"\sqrt[3]{7}"), ("٣٧", "37")],
)
def test_marks_of_unicode(gold: str, said: str) -> None:
    assert equivalent(gold, said) is True and equivalent(said, gold) is True


@pytest.mark.parametrize(("gold", "said"), [("1", "√19"), ("3", "√31"), ("5", "5½"), ("5", "5²"), ("2/3", "1 2/3")])
def test_marks_of_unicode_are_read_whole(gold: str, said: str) -> None:
    assert equivalent(gold, said) is not True
    assert check(f"Final answer: {said}", Question(Kind.INTEGER, gold)).correct is not True


def test_an_answer_that_reads_to_nothing_decides_nothing() -> None:
    for gold in ("...", "*", "answer", "", "?"):
        verdict = check("Final answer: 5", Question(Kind.TEXT, gold))
        assert (verdict.correct, verdict.rule, verdict.confidence) == (None, "unusable right answer", 0)


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("color", "colour"),
        ("bus", "autobus"),
        ("EU", "European Union"),
        ("O2", "oxygen"),
        ("no change", "nothing"),
        ("Ada Lovelace", "Lovelace, Ada"),
        ("上海", "上海市"),
        ("右", "右边"),
    ],
)
def test_another_name_of_the_same_is_not_wrong(gold: str, said: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.TEXT, gold)).correct is not False


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("8", "8 at least"),
        ("8", "8 and above"),
        ("8", "8 more than last year"),
        ("8", "±8"),
        ("8", "8以上"),
        ("8", "8多"),
        ("8", "8 (wrong)"),
        ("8", "1.2.3 to 1.2.8"),
        ("9 cm^2", "9 cm^3"),
        ("9 m/s^2", "9 m/s"),
        ("$9", "9 euros"),
        ("24", "a dozen and a half"),
    ],
)
def test_bounds_behind_a_number_and_other_units_are_not_it(gold: str, said: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.INTEGER, gold)).correct is not True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("24", "two dozen"),
        ("$4 million", "4 million"),
        ("4 million", "$4 million"),
        ("12 years", "12 years old"),
        ("9公里", "9 km"),
        ("5/8", "5 out of 8"),
        ("2, 3, 5", "2, 3, and 5"),
        ("1980s", "the 1980s"),
        ("$y$-axis", "y-axis"),
        ("solution", "a solution"),
    ],
)
def test_scales_ages_shares_and_decades(gold: str, said: str) -> None:
    kind = Kind.INTEGER if gold == "24" else Kind.EXPRESSION
    assert check(f"Final answer: {said}", Question(kind, gold)).correct is True


def test_an_option_in_another_unit_is_none_of_them() -> None:
    for choices, said in ((("12 cm", "15 cm", "18 cm"), "15 m"), (("30°", "45°", "60°"), "45%")):
        assert check(f"Final answer: {said}", Question(Kind.CHOICE, "B", choices)).correct is not True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("6:40", "The clock shows 6:40."),
        ("6:40", "6时40分"),
        ("9:15", "a quarter past nine"),
        ("7:00", "7 o'clock"),
        ("2018-05-06", "票据上的日期是2018年5月6日"),
        ("x=4 or x=-1", "Factoring gives $x=4$ or $x=-1$."),
        ("9\\pi", "S = 9π（平方厘米）"),
        ("$8.50", "USD 8.50"),
    ],
)
def test_an_answer_among_words(gold: str, said: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.EXPRESSION, gold)).correct is True
