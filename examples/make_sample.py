"""Makes `examples/mmpr_sample`: 64 preference pairs in MMPR format, small enough to live in the repository.

    .venv/bin/python examples/make_sample.py examples/mmpr_sample

Photographs come out of the scikit-image package, all in the public domain or CC0 (see SOURCES.md, which this writes);
diagrams are drawn here from seeded numbers, so that each chosen answer is computed and each rejected one contains one
honest slip.
"""

import json
import math
import random
import sys
from pathlib import Path

import skimage
from PIL import Image, ImageDraw, ImageFont

PHOTOS = {
    "astronaut.png": "Eileen Collins, NASA Great Images database, public domain",
    "chelsea.png": "Chelsea the cat, Stefan van der Walt, CC0",
    "coffee.png": "Coffee cup, Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0",
    "rocket.jpg": "Falcon 9 with DSCOVR, SpaceX, public domain",
    "camera.png": "Cameraman, Lav Varshney, CC0",
    "horse.png": "Silhouette of a horse, Andreas Preuss, CC0",
    "coins.png": "Greek coins from Pompeii, Brooklyn Museum, no known copyright restrictions",
}

# picture, question, reasoning and answer that are right, reasoning and answer that are wrong
PHOTO_PAIRS = [
    (
        "astronaut",
        "What colour is the suit that the woman wears?",
        ("The woman stands in front of a flag and a model of a shuttle. Her space suit is a bright orange."),
        "Orange",
        ("The woman stands in front of a flag. The helmet beside her is white, so the suit is white too."),
        "White",
    ),
    (
        "astronaut",
        "What vehicle is shown behind the woman on the right?",
        ("Behind her stands a model with a large brown tank and a white orbiter with wings. That is a space shuttle."),
        "A space shuttle",
        ("Behind her stands a tall white object with a pointed tip. That is a lighthouse."),
        "A lighthouse",
    ),
    (
        "astronaut",
        "Is the woman wearing her helmet?",
        (
            "Her hair and face are free, and a white helmet with a dark "
            "visor lies on the table beside her. So she is not wearing it."
        ),
        "No",
        ("She wears a complete space suit, and a suit comes with a helmet. So she is wearing it."),
        "Yes",
    ),
    (
        "astronaut",
        "Which object on the left shows red and white stripes?",
        (
            "On the left edge hangs cloth with red "
            "and white stripes and a blue field with "
            "stars. It is the flag of the United "
            "States."
        ),
        "A flag",
        ("On the left edge hangs striped cloth. Striped cloth in front of a wall is usually a curtain."),
        "A curtain",
    ),
    (
        "chelsea",
        "What animal is in the picture?",
        (
            "The face has whiskers, upright ears and green eyes with narrow "
            "pupils, and the fur is striped. These are the marks of a cat."
        ),
        "A cat",
        ("The face has orange fur and whiskers. Orange fur is typical of a fox."),
        "A fox",
    ),
    (
        "chelsea",
        "What colour are the animal's eyes?",
        ("Both eyes are open. Around the dark pupils the iris is green with a little yellow."),
        "Green",
        ("The fur is brown and orange, and the eyes have the same colour as the fur."),
        "Brown",
    ),
    (
        "chelsea",
        "How many eyes of the animal can be seen?",
        (
            "The head is turned a little to the right, but both eyes "
            "are in view: one near the middle and one on the right."
        ),
        "2",
        ("The head is turned to the right, so the far eye is hidden and only one remains."),
        "1",
    ),
    (
        "coffee",
        "What is the colour of the saucer?",
        ("The cup stands on a round saucer on a wooden table. The saucer has the same red as the outside of the cup."),
        "Red",
        ("The inside of the cup is white, and cup and saucer belong together, so the saucer is white."),
        "White",
    ),
    (
        "coffee",
        "What lies on the saucer next to the cup?",
        ("To the right of the cup's handle lies something of shining metal with a bowl at its end: a spoon."),
        "A spoon",
        ("To the right of the cup lies something of shining metal. It is a knife."),
        "A knife",
    ),
    (
        "coffee",
        "What is the table made of?",
        ("The surface under the saucer is brown and shows lines of grain and a gap between boards. It is wood."),
        "Wood",
        ("The surface under the saucer is smooth and reddish. It is marble."),
        "Marble",
    ),
    (
        "coffee",
        "Is the cup full to the rim?",
        ("The white inside of the cup is visible as a broad ring above the coffee. So there is room left."),
        "No",
        ("Coffee is visible in the cup, so the cup is full."),
        "Yes",
    ),
    (
        "rocket",
        "What stands in the middle of the picture?",
        (
            "A tall, slender white body with a rounded tip stands "
            "upright on a platform between lattice towers. It is a "
            "rocket before its launch."
        ),
        "A rocket",
        ("A tall, slender white body stands upright with lights around it. It is a chimney."),
        "A chimney",
    ),
    (
        "rocket",
        "Was the picture taken at noon?",
        (
            "The sky is dark blue and the lamps around the platform shine like "
            "stars. At noon the sky would be bright, so it was not."
        ),
        "No",
        ("The sky is blue. A blue sky means that it was noon."),
        "Yes",
    ),
    (
        "rocket",
        "Is the rocket already flying?",
        ("The body still stands on its platform and there is no flame or smoke below. So it is not flying."),
        "No",
        ("There are bright lights at the bottom, which must be the flames of the engines. So it is flying."),
        "Yes",
    ),
    (
        "camera",
        "What does the man look into?",
        ("The man bends forward to a box with a lens on three legs. He looks into a camera."),
        "A camera",
        ("The man bends forward to something on three legs, which could be a telescope."),
        "A telescope",
    ),
    (
        "camera",
        "How many legs does the stand have?",
        ("Below the camera the stand spreads its legs over the grass. One can count three, so it is a tripod."),
        "3",
        ("Below the camera the stand spreads one leg to the left and one to the right, which makes two."),
        "2",
    ),
    (
        "camera",
        "Is the picture in colour?",
        ("Sky, coat and grass are all shades of grey. So the picture has no colour."),
        "No",
        ("The picture shows grass, and grass is green. So the picture is in colour."),
        "Yes",
    ),
    (
        "horse",
        "Which animal's outline is this?",
        ("The outline has four long legs with hooves, a long tail and a long neck with a mane line. It is a horse."),
        "A horse",
        ("The outline has four legs and a tail. It is a dog."),
        "A dog",
    ),
    (
        "horse",
        "Which way does the animal face?",
        ("The head is at the right end of the outline and the tail hangs at the left. So it faces right."),
        "Right",
        ("The tail is at the left, and the animal faces the way of its tail. So it faces left."),
        "Left",
    ),
    (
        "coins",
        "How many rows of coins are there?",
        (
            "From top to bottom the coins lie in lines: the first, the "
            "second, the third and the fourth. That makes four rows."
        ),
        "4",
        ("From top to bottom the coins lie in lines. Counting the gaps between them gives three rows."),
        "3",
    ),
    (
        "coins",
        "There are four rows with six coins each. How many coins are there?",
        ("Each row has 6 coins and there are 4 rows. 4 x 6 = 24."),
        "24",
        ("Each row has 6 coins and there are 4 rows. 4 + 6 = 10."),
        "10",
    ),
]

TEXT_PAIRS = [
    (
        "A shop sells pens at 3 for 2 euros. How much do 12 pens cost?",
        ("12 pens are 12 / 3 = 4 times three pens. 4 x 2 = 8."),
        "8 euros",
        ("12 pens at 2 euros are 12 x 2 = 24."),
        "24 euros",
    ),
    (
        "What is the sum of the angles in a triangle and in a square together?",
        ("A triangle has 180 degrees and a square 4 x 90 = 360. 180 + 360 = 540."),
        "540 degrees",
        ("A triangle has 180 degrees and a square has 180 as well. 180 + 180 = 360."),
        "360 degrees",
    ),
    (
        "A train leaves at 9:40 and arrives at 11:15. How long does it travel?",
        ("From 9:40 to 10:40 is 1 hour, from 10:40 to 11:15 are 35 minutes."),
        "1 hour 35 minutes",
        ("From 9 to 11 are 2 hours, and 40 minus 15 are 25 minutes more."),
        "2 hours 25 minutes",
    ),
    (
        "What is 15 % of 80?",
        "10 % of 80 is 8 and 5 % is half of it, 4. 8 + 4 = 12.",
        "12",
        ("15 % means dividing by 15. 80 / 15 is about 5.3."),
        "5.3",
    ),
    (
        "If all bloops are razzies and no razzie is green, can a bloop be green?",
        ("Each bloop is a razzie, and no razzie is green. So no bloop is green."),
        "No",
        ("Nothing is said about the colour of bloops, so one of them may be green."),
        "Yes",
    ),
    (
        "3 + 4 x 2 = ?",
        "Multiplication comes first: 4 x 2 = 8. Then 3 + 8 = 11.",
        "11",
        ("From left to right: 3 + 4 = 7. Then 7 x 2 = 14."),
        "14",
    ),
    (
        "一个长方形长 8 厘米，宽 5 厘米，面积是多少？",
        "长方形的面积等于长乘以宽。8 x 5 = 40。",
        "40 平方厘米",
        "长方形的面积等于长加宽。8 + 5 = 13。",
        "13 平方厘米",
    ),
]


def answer(reasoning: str, final: object) -> str:
    return f"{reasoning}\n\nFinal answer: {final}"


def pair(image: object, question: str, right: str, final: object, wrong: str, wrong_final: object) -> dict:
    line: dict = {} if image is None else {"image": image}
    return line | {"question": question, "chosen": answer(right, final), "rejected": answer(wrong, wrong_final)}


class Canvas:
    """A white picture with black lines and readable letters."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), "white")
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, words: str, size: int = 20) -> None:
        self.draw.text((x, y), words, fill="black", font=ImageFont.load_default(size), anchor="mm")

    def save(self, path: Path) -> str:
        self.image.save(path, optimize=True)
        return path.name


def bar_chart(rng: random.Random, folder: Path, number: int) -> list[dict]:
    names = rng.sample(["apples", "pears", "plums", "figs", "nuts", "limes"], 4)
    values = rng.sample(range(2, 11), 4)
    colours = rng.sample(["steelblue", "tomato", "seagreen", "goldenrod"], 4)
    canvas = Canvas(520, 380)
    for tick in range(0, 11, 2):
        y = 320 - 27 * tick
        canvas.draw.line((50, y, 500, y), fill="lightgrey")
        canvas.text(30, y, str(tick), 16)
    for place, (name, value, colour) in enumerate(zip(names, values, colours, strict=True)):
        left = 70 + 110 * place
        canvas.draw.rectangle((left, 320 - 27 * value, left + 70, 320), fill=colour, outline="black")
        canvas.text(left + 35, 342, name)
    image = canvas.save(folder / f"bars{number}.png")
    by_value = sorted(zip(values, names, strict=True))
    (low, lowest), (second, _), (high, highest) = by_value[0], by_value[1], by_value[-1]
    read = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return [
        pair(
            image,
            "<image>\nWhich bar is the tallest?",
            (f"The bars read {read}. The largest value is {high}, at {highest}."),
            highest,
            (f"The bars read {read}. The largest value is {low}, at {lowest}."),
            lowest,
        ),
        pair(
            image,
            "<image>\nHow much taller is the tallest bar than the shortest?",
            (
                f"The tallest bar reads {high} "
                f"({highest}) and the shortest "
                f"{low} ({lowest}). {high} "
                f"- {low} = {high - low}."
            ),
            high - low,
            (
                "The tallest bar reads "
                f"{high} ({highest}) and the "
                f"shortest {second}. {high} "
                f"- {second} = "
                f"{high - second}."
            ),
            high - second,
        ),
        pair(
            image,
            "What is the sum of all the bars in the chart?",
            (f"The bars read {read}. Added up: {' + '.join(map(str, values))} = {sum(values)}."),
            sum(values),
            (
                f"The bars read {read}. "
                "Added up without the last: "
                f"{' + '.join(map(str, values[:-1]))} = {sum(values[:-1])}."
            ),
            sum(values[:-1]),
        ),
    ]


def right_triangle(folder: Path, number: int) -> list[dict]:
    a, b, c = [(3, 4, 5), (6, 8, 10), (5, 12, 13), (8, 15, 17)][number]
    scale = 300 / max(a, b)
    canvas = Canvas(460, 420)
    corner, top, right = (70, 370), (70, 370 - scale * a), (70 + scale * b, 370)
    canvas.draw.polygon([corner, top, right], outline="black", width=3)
    canvas.draw.rectangle((70, 350, 90, 370), outline="black", width=2)
    canvas.text(45, 370 - scale * a / 2, str(a), 24)
    canvas.text(70 + scale * b / 2, 395, str(b), 24)
    canvas.text(95 + scale * b / 2, 345 - scale * a / 2, "c", 24)
    image = canvas.save(folder / f"triangle{number}.png")
    return [
        pair(
            image,
            "<image>\nHow long is the side c of this right triangle?",
            (
                "c is opposite the right angle, so "
                f"c^2 = {a}^2 + {b}^2 = {a * a} + "
                f"{b * b} = {c * c}. The root of "
                f"{c * c} is {c}."
            ),
            c,
            (f"c is the sum of the other sides: {a} + {b} = {a + b}."),
            a + b,
        ),
        pair(
            image,
            "<image>\nWhat is the area of the triangle?",
            (
                f"The two sides at the right angle are {a} and "
                f"{b}. Half of their product is {a} x {b} / 2 = "
                f"{a * b / 2:g}."
            ),
            f"{a * b / 2:g}",
            (f"The two sides at the right angle are {a} and {b}. Their product is {a} x {b} = {a * b}."),
            a * b,
        ),
    ]


def shapes(rng: random.Random, folder: Path, number: int) -> list[dict]:
    circles, squares = rng.randint(3, 7), rng.randint(2, 6)
    kinds = ["circle"] * circles + ["square"] * squares
    rng.shuffle(kinds)
    canvas = Canvas(480, 300)
    for place, kind in enumerate(kinds):
        x, y = 50 + 95 * (place % 5), 55 + 95 * (place // 5)
        box = (x - 30, y - 30, x + 30, y + 30)
        (canvas.draw.ellipse if kind == "circle" else canvas.draw.rectangle)(
            box, fill="tomato" if kind == "circle" else "steelblue", outline="black"
        )
    image = canvas.save(folder / f"shapes{number}.png")
    return [
        pair(
            image,
            "<image>\nHow many circles are there?",
            (f"Going row by row and counting only round shapes gives {circles}."),
            circles,
            (
                "Going row by row and "
                "counting the shapes with "
                "corners gives "
                f"{squares if squares != circles else squares + 1}."
            ),
            squares if squares != circles else squares + 1,
        ),
        pair(
            image,
            "<image>\nHow many shapes are there in all?",
            (f"There are {circles} circles and {squares} squares. {circles} + {squares} = {circles + squares}."),
            circles + squares,
            (f"There are {circles} circles and {squares} squares. {circles} x {squares} = {circles * squares}."),
            circles * squares,
        ),
    ]


def clock(rng: random.Random, folder: Path, number: int) -> list[dict]:
    hour, minute = rng.randint(1, 12), rng.choice([10, 15, 20, 25, 35, 40, 50])
    canvas = Canvas(360, 360)
    canvas.draw.ellipse((30, 30, 330, 330), outline="black", width=4)
    for mark in range(1, 13):
        canvas.text(180 + 128 * math.sin(mark * math.pi / 6), 180 - 128 * math.cos(mark * math.pi / 6), str(mark), 22)
    for turn, length, width in (((hour % 12 + minute / 60) / 12, 70, 8), (minute / 60, 105, 4)):
        tip = (180 + length * math.sin(2 * math.pi * turn), 180 - length * math.cos(2 * math.pi * turn))
        canvas.draw.line((180, 180, *tip), fill="black", width=width)
    image = canvas.save(folder / f"clock{number}.png")
    wrong_hour, wrong_minute = (minute // 5) or 12, hour * 5 % 60
    return [
        pair(
            image,
            "<image>\nWhat time does the clock show?",
            (f"The short hand is past {hour} and the long hand points at {minute // 5}, which is {minute} minutes."),
            f"{hour}:{minute:02d}",
            (
                "The long hand points at "
                f"{wrong_hour} and gives the "
                "hour; the short hand is "
                f"near {hour} and gives "
                f"{wrong_minute} minutes."
            ),
            f"{wrong_hour}:{wrong_minute:02d}",
        ),
    ]


def photo_pairs() -> list[dict]:
    suffix = {Path(name).stem: f"{Path(name).stem}.jpg" for name in PHOTOS}
    return [pair(suffix[name], question, *rest) for name, question, *rest in PHOTO_PAIRS]


def comparisons(folder: Path) -> list[dict]:
    """Pairs with two pictures."""
    two = "Image-1: <image>\nImage-2: <image>\n"
    return [
        pair(
            ["chelsea.jpg", "horse.jpg"],
            f"{two}Which picture shows the smaller animal?",
            ("Image-1 shows a cat and Image-2 a horse. A cat is much smaller than a horse."),
            "Image-1",
            (
                "Image-1 shows a head that "
                "fills the frame and Image-2 "
                "a whole animal with room "
                "around it. What fills less "
                "of the frame is smaller."
            ),
            "Image-2",
        ),
        pair(
            ["camera.jpg", "coffee.jpg"],
            f"{two}Which picture is in colour?",
            ("Image-1 has only shades of grey. Image-2 shows a red cup on brown wood."),
            "Image-2",
            ("Image-1 shows grass and a sky, which are green and blue. Image-2 shows a cup."),
            "Image-1",
        ),
        pair(
            ["rocket.jpg", "astronaut.jpg"],
            f"{two}Which picture shows a person?",
            ("Image-1 shows a rocket on its platform and nobody beside it. Image-2 shows a woman in a space suit."),
            "Image-2",
            ("A rocket has a crew, so the rocket of Image-1 shows a person."),
            "Image-1",
        ),
        pair(
            ["coins.jpg", "coffee.jpg"],
            f"{two}Which picture shows more round objects?",
            ("Image-1 shows four rows of coins, 24 in all. Image-2 shows one cup on one saucer."),
            "Image-1",
            ("The saucer of Image-2 is larger than any coin, so Image-2 has more."),
            "Image-2",
        ),
        pair(
            ["shapes0.png", "clock0.png"],
            f"{two}In which picture can you read the time?",
            ("Image-1 shows circles and squares. Image-2 shows a dial with numbers and two hands."),
            "Image-2",
            ("Image-1 shows many round shapes, and clocks are round."),
            "Image-1",
        ),
    ]


def main(output: Path) -> None:
    photos, diagrams = output / "images" / "photos", output / "images" / "diagrams"
    for folder in (photos, diagrams, output / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        image = Image.open(Path(skimage.__file__).parent / "data" / name)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image.convert("RGB").save(photos / f"{Path(name).stem}.jpg", quality=85)
    rng = random.Random(0)
    drawn = [line for number in range(5) for line in bar_chart(rng, diagrams, number)]
    drawn += [line for number in range(4) for line in right_triangle(diagrams, number)]
    drawn += [line for number in range(3) for line in shapes(rng, diagrams, number)]
    drawn += [line for number in range(2) for line in clock(rng, diagrams, number)]
    mixed = comparisons(output / "images")
    for line in mixed:
        line["image"] = [f"{'photos' if name.endswith('jpg') else 'diagrams'}/{name}" for name in line["image"]]
    text = [pair(None, *row) for row in TEXT_PAIRS]
    sets = {
        "photos": ("images/photos", photo_pairs(), {}),
        "diagrams": ("images/diagrams", drawn, {"max_dynamic_patch": 6}),
        "comparisons": ("images", mixed, {}),
        "text": ("images", text, {}),
    }
    meta = {}
    for name, (root, lines, options) in sets.items():
        annotation = f"annotations/{name}.jsonl"
        (output / annotation).write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
        )
        meta[name] = {
            "root": root,
            "annotation": annotation,
            "data_augment": False,
            "repeat_time": 1,
            "length": len(lines),
        } | options
    (output / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    sources = "".join(f"- `images/photos/{Path(name).stem}.jpg`: {source}\n" for name, source in PHOTOS.items())
    (output / "SOURCES.md").write_text(
        "# Where the pictures come from\n\nPhotographs, taken from the scikit-image package and saved as JPEG:\n\n"
        f"{sources}\nEverything in `images/diagrams` is drawn by `examples/make_sample.py`.\n",
        encoding="utf-8",
    )
    print(f"{sum(len(lines) for _, lines, _ in sets.values())} pairs in {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
