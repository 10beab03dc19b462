"""Writes pairs as an HTML page, in one file without scripts or outside links, to look at data before training."""

import base64
import difflib
import html
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mpo_lightning.data.annotations.mmpr import make_record, parse_line, read_lines, read_meta
from mpo_lightning.data.encoding import Pictures
from mpo_lightning.data.pictures import open_picture
from mpo_lightning.data.records import MAX_TEXT_BYTES, PreferenceRecord
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.sample import packaged_tokenizer
from mpo_lightning.errors import BadRecord
from mpo_lightning.files.whole import write_text
from mpo_lightning.models.internvl.tiling import InternVLPictures

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
article { border: 1px solid #8886; border-radius: 8px; padding: 1rem 1.2rem; margin: 1.2rem 0; }
h2 { font-size: 1rem; margin: 0 0 .6rem; } .meta { color: #888; font-weight: normal; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin-top: .8rem; }
.history { font-size: .8rem; color: #888; margin-top: .5rem; }
.damaged { border-color: #c33; }
.side { border-radius: 6px; padding: .6rem .8rem; } .side h3 { font-size: .85rem; margin: 0 0 .3rem; }
.chosen { background: #2a92; } .rejected { background: #c332; }
.chosen mark { background: #2a97; color: inherit; } .rejected mark { background: #c337; color: inherit; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; margin: .6rem 0; }
figure { margin: 0; } figcaption { font-size: .8rem; color: #888; }
.whole { max-height: 190px; max-width: 340px; }
.tiles { display: inline-grid; gap: 3px; } .tiles img { display: block; width: 62px; height: 62px; }
@media (max-width: 45rem) { .sides { grid-template-columns: 1fr; } }
"""


def packaged_count(text: str) -> int:
    """Counts the tokens of a text by the packaged tokenizer."""
    return len(packaged_tokenizer().encode(text).ids)


class ShardPairs:
    """The pairs of a shard folder, by number.

    Args:
        folder: folder of shards.
    """

    def __init__(self, folder: Path) -> None:
        self._index = open_index(folder)
        self._reader = ShardReader(self._index)
        self.where, self.key, self.read = self._index.where, self._index.key, self._reader.read
        sets = ", ".join(entry.name for entry in self._index.datasets)
        self.origin = f"in {len(self._index.shards)} shards; data sets: {sets}"

    def __len__(self) -> int:
        return len(self._index)


class AnnotationPairs:
    """The pairs of a meta.json in MMPR's form, by number.

    Args:
        meta: path of the meta.json.

    Raises:
        InputError: the file cannot be used.
    """

    def __init__(self, meta: Path) -> None:
        sets = read_meta(meta)
        self._lines = [(entry, number, offset) for entry in sets for number, offset, _ in read_lines(entry.annotation)]
        self.origin = f"in {len(sets)} files; data sets: {', '.join(entry.name for entry in sets)}"

    def __len__(self) -> int:
        return len(self._lines)

    def where(self, place: int) -> str:
        """Returns a pair's file and line."""
        entry, number, _ = self._lines[place]
        return f"{entry.annotation}:{number}"

    def key(self, place: int) -> str:
        """Returns the pair's key as in shards, except for characters that shards replace."""
        entry, number, _ = self._lines[place]
        return f"{entry.name}-{number:08d}"

    def read(self, place: int) -> PreferenceRecord:
        """Reads a pair with its images.

        Raises:
            BadRecord: the pair cannot be used.
        """
        entry, number, offset = self._lines[place]
        with entry.annotation.open("rb") as file:
            file.seek(offset)
            parsed = parse_line(file.readline(MAX_TEXT_BYTES + 1), entry.root)
        images = tuple(path.read_bytes() for path in parsed.pictures)
        return make_record(entry, number, parsed, entry.name, images=images)


def pairs_in(folder: Path) -> ShardPairs | AnnotationPairs:
    """Opens the pairs of a shard folder, or of a meta.json or the folder that it is in."""
    meta = folder if folder.suffix == ".json" else folder / "meta.json"
    return AnnotationPairs(meta) if meta.is_file() else ShardPairs(folder)


DEFAULT_PICTURES = InternVLPictures()
"""Tiles of 448 pixels, if no model is named."""


def write_page(
    folder: Path,
    output: Path,
    pairs: int,
    seed: int,
    max_tiles: int,
    pictures: Pictures = DEFAULT_PICTURES,
    count_tokens: Callable[[str], int] = packaged_count,
) -> tuple[int, int]:
    """Writes the page and returns the numbers of its pairs and of those that could not be read.

    Args:
        folder: a shard folder, a meta.json, or the folder that it is in.
        output: the page to write.
        pairs: number of pairs, drawn at random.
        seed: seed of the draw.
        max_tiles: most tiles of a pair's images, thumbnails not counted.
        pictures: how the model cuts images into tiles.
        count_tokens: counts the tokens of a text.
    """
    found = pairs_in(folder)
    chosen = sorted(np.random.default_rng(seed).permutation(len(found))[:pairs].tolist())
    articles, damaged = [], 0
    for record in chosen:
        try:
            articles.append(_article(found.read(record), max_tiles, pictures, count_tokens))
        except BadRecord as error:
            damaged += 1
            reason = html.escape(f"{found.where(record)}: {error}")
            articles.append(
                f'<article class="damaged"><h2>{html.escape(found.key(record))}</h2><p>{reason}</p></article>'
            )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width">'
        f"<title>{html.escape(str(folder))}</title><style>{STYLE}</style></head><body><h1>{html.escape(str(folder))}</h1>"
        f"<p>{len(chosen)} of {len(found):,} pairs {html.escape(found.origin)}.</p>{''.join(articles)}</body></html>\n"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)
    return len(chosen), damaged


def _article(record: PreferenceRecord, max_tiles: int, pictures: Pictures, count_tokens: Callable[[str], int]) -> str:
    limit = record.max_tiles or max_tiles
    figures = "".join(_figure(open_picture(data), limit, len(record.images), pictures) for data in record.images)
    left, right = marked_difference(record.chosen, record.rejected)
    sides = "".join(
        f'<div class="side {name}"><h3>{name}, {count_tokens(text)} tokens</h3><div '
        f'class="text">{marked}</div>{_history(record.extra.get(f"{name}_meta"))}</div>'
        for name, text, marked in (("chosen", record.chosen, left), ("rejected", record.rejected, right))
    )
    system = f'<div class="text">[system] {html.escape(record.system)}</div>' if record.system else ""
    # The pair's own id, and how it was made.
    made = [str(record.extra[name]) for name in ("id", "kind", "prompt_kind") if record.extra.get(name)]
    made += [f"answer {record.extra['answer_gt']}"] if record.extra.get("answer_gt") is not None else []
    return (
        f'<article><h2>{html.escape(record.key)} <span class="meta">{html.escape(record.dataset)}, '
        f"{html.escape(record.source)}, "
        f"question {count_tokens(record.question)} "
        f"tokens{''.join(f'; {html.escape(part)}' for part in made)}</span></h2><div "
        f'class="pictures">{figures}</div>'
        f'{system}<div class="text">{html.escape(record.question)}</div><div class="sides">{sides}</div></article>'
    )


def _history(meta: object) -> str:
    """Returns a side's `_meta` as a line: sample, verdict, rule, confidence and its other fields."""
    if not isinstance(meta, dict) or not meta:
        return ""
    told = ", ".join(f"{str(name).replace('_', ' ')} {value}" for name, value in meta.items() if value is not None)
    return f'<div class="history">{html.escape(told)}</div>'


def _figure(image: Image.Image, limit: int, count: int, pictures: Pictures) -> str:
    cols, rows = pictures.layout(image, limit, count)
    tiles = pictures.cut(image, limit, count).permute(0, 2, 3, 1).numpy()
    small = "".join(f'<img alt="tile" src="{_data_url(Image.fromarray(tile).resize((62, 62)))}">' for tile in tiles)
    whole = image.copy()
    whole.thumbnail((680, 380))
    return (
        f'<figure><img class="whole" alt="image" src="{_data_url(whole)}"><figcaption>{image.width} x '
        f"{image.height}</figcaption></figure>"
        f'<figure><span class="tiles" style="grid-template-columns: repeat({cols}, auto)">{small}</span>'
        f"<figcaption>{cols} x {rows} tiles{' and the whole' if len(tiles) > 1 else ''}</figcaption></figure>"
    )


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def marked_difference(chosen: str, rejected: str) -> tuple[str, str]:
    """Returns both answers as HTML, with the words that the other does not have inside `<mark>`."""
    left, right = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (chosen, rejected))
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, start, stop, other_start, other_stop in difflib.SequenceMatcher(
        None, left, right, autojunk=False
    ).get_opcodes():
        for side, words in zip(sides, (left[start:stop], right[other_start:other_stop]), strict=True):
            text = html.escape("".join(words))
            side.append(text if kind == "equal" or not text else f"<mark>{text}</mark>")
    return "".join(sides[0]), "".join(sides[1])
