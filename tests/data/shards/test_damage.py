"""Five hundred damaged inputs: each is named, none is taken in silence, hangs, runs, or takes much memory."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from support.commands import ranks
from support.damage import CASES
from support.processes import TESTS


@pytest.mark.slow
def test_every_damaged_input_gets_its_sentence(tmp_path: Path, shards: Path, root: Path) -> None:
    source = tmp_path / "annotations"
    source.mkdir()
    pictures = sorted((root / "examples/mmpr_sample/images/diagrams").glob("*.png"))[:4]
    for path in pictures:
        shutil.copy(path, source / path.name)
    (source / "loop.png").symlink_to(source / "loop.png")
    rows = [
        {"image": path.name, "question": f"What is {n}?", "chosen": "right", "rejected": "wrong"}
        for n, path in enumerate(pictures)
    ]
    (source / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source / "meta.json").write_text(json.dumps({"set": {"root": ".", "annotation": "pairs.jsonl"}}))
    (tmp_path / "work").mkdir()
    done = ranks(1, "support.damage", shards / "train", source, tmp_path / "work", seconds=400)
    assert done.returncode == 0, (done.stdout[-500:], done.stderr[-3000:])
    *cases, memory = map(json.loads, done.stdout.splitlines())
    assert len(cases) == CASES and len(Counter(case["kind"] for case in cases)) > 50
    assert memory["more_kb"] < 300_000  # the largest picture that may be decoded is 200 MB
    assert not list(TESTS.rglob("EXECUTED")) and not list(tmp_path.rglob("EXECUTED"))
    assert sum(case["said"] == "every record is the same" for case in cases) < 20
