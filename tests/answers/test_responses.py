"""Responses in the styles of many models, each with the decision of a careful reader; None where two readers might
differ.
"""

import pytest

from mpo_lightning.answers import Kind, Question, check


def C(gold: str, *choices: str) -> Question:
    return Question(Kind.CHOICE, gold, choices)


def I(gold: str) -> Question:  # noqa: E743
    return Question(Kind.INTEGER, gold)


def E(gold: str) -> Question:
    return Question(Kind.EXPRESSION, gold)


def F(gold: str, precision: int) -> Question:
    return Question(Kind.FLOAT, gold, (), precision)


CASES = [
    ("The answer is not A but B.", C("B", "x", "y", "z"), True),
    ("Option C is wrong because... Option A is incorrect. So the answer must be B.", C("B", "x", "y", "z"), True),
    ("Let's see: A) 3 is too small, B) 5 is right, C) 7 too large.\n\nFinal answer: B", C("B", "3", "5", "7"), True),
    ("**Answer: (D)**", C("D", "1", "2", "3", "4"), True),
    ("The correct answer is option D: 4.", C("D", "1", "2", "3", "4"), True),
    ("Hence, option (b) is correct.", C("B", "1", "2", "3", "4"), True),
    ("Final Answer: $\\boxed{B}$", C("B", "1", "2", "3"), True),
    ("The final answer is: $\\boxed{\\text{B. } 5}$", C("B", "3", "5", "7"), True),
    ("I think the answer could be A, but after checking it's C.", C("C", "1", "2", "3"), True),
    ("The answer is A or C.", C("A", "1", "2", "3"), None),
    ("None of the above.", C("D", "1", "2", "3", "None of the above"), True),
    ("All of the above", C("D", "cat", "dog", "cow", "All of the above"), True),
    ("It is the cat.", C("B", "dog", "cat", "catfish"), True),
    ("The picture shows a catfish.", C("C", "dog", "cat", "catfish"), True),
    ("A", C("A", "1", "2"), True),
    ("A dog is in the image.", C("B", "cat", "dog"), True),
    ("As can be seen, the answer is 45 degrees", C("C", "30°", "40°", "45°"), True),
    ("The value of x is 5. Therefore the answer is B.", C("B", "4", "5"), True),
    ("答案：C", C("C", "1", "2", "3"), True),
    ("因此，正确答案是 C。", C("C", "1", "2", "3"), True),
    ("故选：D．", C("D", "1", "2", "3", "4"), True),
    ("最终答案：B", C("B", "1", "2"), True),
    ("选C", C("C", "1", "2", "3"), True),
    ("Yes", C("yes", "yes", "no"), True),
    ("No, it isn't.", C("no", "yes", "no"), True),
    ("Yes, the number is greater.", C("Yes", "Yes", "No"), True),
    ("It is not possible to say, but I would guess yes.", C("yes", "yes", "no"), True),
    ("Final answer: 3/4", E("0.75"), True),
    ("Final answer: 75%", E("0.75"), None),
    ("Final answer: about 12", I("12"), True),
    ("Final answer: 12 or 13", I("12"), None),
    ("x = 3 or x = -3\nFinal answer: x = \\pm 3", E("3, -3"), True),
    ("The answer is 1,000", I("1000"), True),
    ("Final answer: -5", I("5"), False),
    ("Final answer: 5", I("-5"), False),
    ("Final answer: minus five", I("-5"), True),
    ("Final answer: $12.50", F("12.5", 1), True),
    ("Final answer: 12.5 dollars", F("12.50", 2), True),
    ("Final answer: 2:3", E("2:3"), True),
    ("Final answer: 3:2", E("2:3"), False),
    ("Final answer: 10:30", E("10:30"), True),
    ("There are 3 red and 2 blue balls, so there are 5 balls in total.", I("5"), True),
    ("There are five balls.", I("5"), True),
    ("Count: 1, 2, 3, 4, 5. So 5.", I("5"), True),
    ("The total is 15+20=35", I("35"), True),
    ("Step 1: 12*3=36. Step 2: 36-4 = 32.\nTherefore, she has 32 apples left out of 40.", I("32"), True),
    ("In 2019, sales were 45 units.", I("45"), True),
    ("The perimeter is 24 cm and the area is 36 cm².\n\nFinal answer: 24", I("24"), True),
    ("Final answer: The area is 36 square centimeters.", I("36"), True),
    ("Final answer: 36 cm^2", I("36"), True),
    ("Final answer: \\(36\\text{ cm}^2\\)", I("36"), True),
    ("Final answer: 3.6 × 10^1", I("36"), True),
    ("\\[\n\\boxed{36}\n\\]", I("36"), True),
    ("### Final Answer\n\n36", I("36"), True),
    ("**Final Answer**\n\n**36**", I("36"), True),
    ("Final answer is 36.0 cm.", I("36"), True),
    ("<think>The answer is 4</think>\n\nThe answer is 5.", I("5"), True),
    ('The answer to the question "how many cats?" is 7.', I("7"), True),
    ("The answer: seven cats", I("7"), True),
    ("I see 7 cats and 3 dogs. The number of cats is 7.", I("7"), True),
    ("Final answer: None", I("0"), True),
    ("There are no cats.", I("0"), True),
    ("Zero", I("0"), True),
    ("The year is 1999.", I("1999"), True),
    ("He was born in the 1990s", I("1990"), None),
    ("Final answer: 45%", I("45"), True),
    ("Final answer: 0.45", I("45"), False),
    ("Final answer: A = 1/2 * 6 * 4 = 12", I("12"), True),
    ("Final answer: f(x) = 2x + 1", E("2x+1"), True),
    ("Final answer: (2, 3)", E("(2,3)"), True),
    ("Final answer: (3, 2)", E("(2,3)"), False),
    ("Final answer: x > 3", E("(3, \\infty)"), True),
    ("Final answer: 12 inches", E("1 foot"), None),
    ("Final answer: 3000 m", E("3 km"), None),
    ("Final answer: 4 feet", E("4 m"), None),
    ("Final answer: Paris", Question(Kind.TEXT, "Paris"), True),
    ("Final answer: the Eiffel Tower", Question(Kind.TEXT, "Eiffel Tower"), True),
    ("Final answer: London", Question(Kind.TEXT, "Paris"), False),
    ("The tower is the Eiffel Tower in Paris.", Question(Kind.TEXT, "Eiffel Tower"), True),
    ("Final answer: red and blue", Question(Kind.TEXT, "blue and red"), None),
    ("The final answer is \\boxed{\\dfrac{3\\sqrt{2}}{2}}", E("\\frac{3}{\\sqrt{2}}"), True),
    ("Final answer: 2√3", E("2\\sqrt{3}"), True),
    ("Final answer: 2 sqrt(3)", E("2\\sqrt{3}"), True),
    ("Final answer: 2*sqrt(3)", E("\\sqrt{12}"), True),
    ("Final answer: 3.46", E("2\\sqrt{3}"), None),
    ("Final answer: 60 degrees", E("60^\\circ"), True),
    ("Final answer: π/3", E("\\frac{\\pi}{3}"), True),
    ("Final answer: [0, 5)", E("[0,5)"), True),
    ("Final answer: {1, 2, 3}", E("\\{1,2,3\\}"), True),
    ("Final answer: 5 apples, 3 pears", E("5, 3"), True),
    ("So, after all steps, B", C("B", "1", "2"), True),
    ("Between (A) and (B), (B) is taller. Final answer: (B) tower", C("B", "house", "tower"), True),
    ("The correct choice is the second option.", C("B", "x", "y"), True),
    ("Based on the image, the answer is Apple", C("A", "Apple", "Banana"), True),
    ("I don't know", C("A", "Apple", "Banana"), False),
    ("This is an apple and not a banana.", C("A", "Apple", "Banana"), True),
    ("The object is neither an apple nor a banana.", C("A", "Apple", "Banana"), None),
    ("(A) Apple (B) Banana\nB", C("B", "Apple", "Banana"), True),
]


@pytest.mark.parametrize(("response", "question", "right"), CASES)
def test_the_decision_of_a_careful_reader(response: str, question: Question, right: bool | None) -> None:
    verdict = check(response, question)
    assert verdict.correct is right, verdict
