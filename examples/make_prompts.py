"""Writes examples/mmpr_prompts: the questions and answers of the sample pairs, as MMPR publishes its prompts, for `mpo
prefs`.

python examples/make_prompts.py examples/mmpr_sample examples/mmpr_prompts
"""

import json
import os
import sys
from pathlib import Path


def main(sample: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    meta = {}
    for name, entry in json.loads((sample / "meta.json").read_text(encoding="utf-8")).items():
        rows: dict[str, str] = {}
        for line in (sample / entry["annotation"]).read_text(encoding="utf-8").splitlines():
            pair = json.loads(line)
            asked = {field: pair[field] for field in ("image", "question") if field in pair}
            row = asked | {"answer": pair["chosen"].rpartition("Final answer: ")[2]}
            rows.setdefault(json.dumps(asked), json.dumps(row, ensure_ascii=False) + "\n")
        (output / f"{name}.jsonl").write_text("".join(rows.values()), encoding="utf-8")
        meta[name] = {
            "root": os.path.relpath(sample / entry["root"], output),
            "annotation": f"{name}.jsonl",
            "length": len(rows),
        }
    (output / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
