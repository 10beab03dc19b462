"""The HTML page: its content, that it needs nothing from outside, and that a browser shows it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from mpo_lightning.commands import data as commands
from mpo_lightning.commands.display.pairs_page import marked_difference
from mpo_lightning.data.shards.index import open_index


@pytest.fixture(scope="module")
def page(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("page") / "pairs.html"
    commands.show(str(shards / "train"), str(output), pairs=100)
    return output


def test_the_page_shows_every_pair_and_nothing_from_outside(page: Path) -> None:
    text = page.read_text()
    assert text.count("<article>") == 56
    assert "<script" not in text and not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', text)
    assert "3 x 2 tiles and the whole" in text and "tokens</h3>" in text


def test_the_difference_is_marked_and_texts_are_escaped() -> None:
    left, right = marked_difference("a <b> is 3", "a <b> is 4 & more")
    assert left == "a &lt;b&gt; is <mark>3</mark>" and right == "a &lt;b&gt; is <mark>4 &amp; more</mark>"


def test_a_damaged_record_is_shown_with_its_reason(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = Path(shutil.copytree(shards / "validation", tmp_path / "damaged"))
    index = open_index(folder)
    tar = folder / index.shards[0].name
    data = bytearray(tar.read_bytes())
    data[int(index.members[int(index.records[2]["first_member"])]["offset"]) + 5] ^= 1
    tar.write_bytes(data)
    with pytest.raises(SystemExit) as stopped:
        commands.show(str(folder), str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert stopped.value.code == 1 and "1 of them cannot be read" in capsys.readouterr().out
    assert (
        text.count("<article>") == 7
        and text.count('<article class="damaged">') == 1
        and f"{index.key(2)}&#x27; of" in text
    )


def test_a_browser_shows_the_page(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    shot = tmp_path / "page.png"
    subprocess.run(
        [browser, *flags, "--window-size=1000,1200", f"--screenshot={shot}", page.as_uri()],
        check=True,
        timeout=120,
        capture_output=True,
    )
    image = Image.open(shot).convert("RGB")
    colours = {colour for _, colour in image.getcolors(maxcolors=10_000_000) or []}
    # Photographs were decoded and painted, and the marked answers have their backgrounds.
    assert image.size == (1000, 1200) and len(colours) > 5000
    dom = subprocess.run(
        [browser, *flags, "--dump-dom", page.as_uri()], check=True, timeout=120, capture_output=True, text=True
    ).stdout
    assert dom.count("<article>") == 56
