"""The whole pipeline on a tiny model: the same bytes after kills and on two devices; what it makes trains, and what was
trained builds again.
"""

import json
import shutil
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mpo_lightning.commands.build import build
from mpo_lightning.commands.data import check, show
from mpo_lightning.commands.prefs import dropout_ntp, pair, sample
from mpo_lightning.data.annotations.mmpr import read_meta
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.errors import InputError
from mpo_lightning.models.draws import Draws, forbidden_ids
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.prefs.sources import Source
from support.commands import mpo, mpo_killed_when, ranks
from support.options import nested, words
from support.processes import bytes_below, finish, members, started, wait_for
from support.runs import make_run

SOURCES = [Source(["photos"], 1, correctness=False), Source(["*"], 1, kinds=["as_asked"])]
OPTIONS: dict[str, Any] = {
    "samples": 6,
    "max_new_tokens": 40,
    "sampling.seed": 3,
    "dropout.max_new_tokens": 40,
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "engine.num_workers": 0,
    "engine.batch_size": 16,
}

ENGINE = {name: value for name, value in OPTIONS.items() if name.startswith(("engine.", "trainer."))}
SHORT = {"dropout.max_new_tokens": 8, "dropout.filters": (), "engine.max_tiles": 1}


@pytest.fixture(scope="module")
def prompts(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the taught model knows, and a few photographs."""
    folder = tmp_path_factory.mktemp("prompts")
    meta = {}
    for name, count in (("diagrams", 9), ("text", 7), ("photos", 21)):
        lines = (root / "examples/mmpr_prompts" / f"{name}.jsonl").read_text().splitlines()[:count]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        images = (
            root
            / "examples/mmpr_sample/images"
            / ("photos" if name == "photos" else "diagrams" if name == "diagrams" else "")
        )
        meta[name] = {"root": str(images), "annotation": f"{name}.jsonl"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder / "meta.json"


@pytest.fixture(scope="module")
def built(prompts: Path, taught_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "out"
    build(
        str(prompts),
        str(folder),
        sources=SOURCES,
        validation=0.2,
        workers=1,
        model=str(taught_folder),
        **nested(build, OPTIONS),
    )
    return folder


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_stage_is_on_record(built: Path, taught_folder: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    stages = manifest["stages"]
    assert sum(found.get("verified", 0) for found in stages["questions"].values()) == 16 and stages["questions"][
        "photos"
    ] == {"open": 21}
    responses = rows_of(built / "responses/verified.jsonl")
    assert len(responses) == 16 * 6 and [row["sample"] for row in responses[:7]] == [0, 1, 2, 3, 4, 5, 0]
    outcomes = Counter[str]()
    for found in stages["correctness"].values():
        outcomes.update({name: value for name, value in found.items() if isinstance(value, int)})
    assert outcomes["responses"] == 96 and outcomes["right"] > 0 and outcomes["wrong"] > 0 and outcomes["pairs"] > 0
    assert sum(found.get("pairs", 0) for found in stages["dropout_ntp"].values()) > 0
    assert manifest["pairs"] == sum(manifest["data_sets"].values()) == sum(manifest["shards"].values())
    assert (
        manifest["costs"]["dropout_ntp"]["paper"] == 571.2 and manifest["costs"]["correctness"]["tokens_per_pair"] > 0
    )
    run = manifest["sampling"]["verified"]
    assert (
        run["sampling"] == {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "seed": 3}
        and run["engine"]["checkpoint"] == taught_folder.name
    )
    card = (built / "README.md").read_text()
    assert f"# {manifest['pairs']:,} preference pairs" in card and "temperature 1, top-k 50" in card


def test_pairs_are_what_they_say(built: Path) -> None:
    entries = {entry.name: entry for entry in read_meta(built / "meta.json")}
    assert (
        any(name.endswith("_pairs_vqa_correctness_rules") for name in entries)
        and "photos_prefix_pair_sr0.5_wo_image" in entries
    )
    answers = {(row["id"], row["sample"]): row["response"] for row in rows_of(built / "responses/verified.jsonl")}
    for name, entry in entries.items():
        for one in rows_of(entry.annotation):
            if "prefix_pair" in name:
                kept = one["rejected_meta"]["kept_characters"]
                assert (
                    one["chosen"][:kept] == one["rejected"][:kept] and one["chosen"] != one["rejected"] and one["image"]
                )
                continue
            question = one["id"].rsplit("-", 2)[0]
            assert (
                one["chosen"] == answers[question, one["chosen_meta"]["sample"]]
                and one["rejected"] == answers[question, one["rejected_meta"]["sample"]]
            )


def test_shards_open_and_train(built: Path, taught_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    check(str(built / "shards"), workers=1)
    show(str(built / "shards" / "train"), str(tmp_path / "pairs.html"), pairs=4)
    assert "0 problems" in capsys.readouterr().out and (tmp_path / "pairs.html").stat().st_size > 1000
    trainer, model, module = make_run(
        tmp_path / "run", taught_folder, built / "shards" / "train", trainer={"max_steps": 1}
    )
    trainer.fit(model, module)
    assert trainer.global_step == 1 and len(open_index(built / "shards" / "train")) > 0


def test_a_build_again_does_nothing_and_other_settings_are_refused(
    built: Path, prompts: Path, taught_folder: Path
) -> None:
    before = tree(built)
    build(
        str(prompts),
        str(built),
        sources=SOURCES,
        validation=0.2,
        workers=2,
        model=str(taught_folder),
        **nested(build, OPTIONS),
    )
    assert tree(built) == before
    with pytest.raises(InputError, match=r"holds a build made with options.dropout.max_new_tokens 40 instead of 41"):
        build(
            str(prompts),
            str(built),
            sources=SOURCES,
            validation=0.2,
            model=str(taught_folder),
            **nested(build, OPTIONS | {"dropout.max_new_tokens": 41}),
        )
    with pytest.raises(InputError, match=r"made with engine.batch_size 16 instead of 8"):
        options = OPTIONS | {"engine.batch_size": 8, "validation": 0.2, "model": str(taught_folder)}
        build(str(prompts), str(built), sources=SOURCES, **nested(build, options))
    with pytest.raises(InputError, match="is not empty and does not hold a build"):
        build(str(prompts), str(prompts.parent), sources=SOURCES, model=str(taught_folder), **nested(build, OPTIONS))


def command(prompts: Path, folder: Path, model: Path, config: Path, more: dict[str, object]) -> list[str]:
    options = (
        OPTIONS
        | {
            "validation": 0.2,
            "workers": 1,
            "prompts": prompts,
            "output": folder,
            "model": model,
            "config": config,
        }
        | more
    )
    return ["prefs", "build", *words(options)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "sources.yaml"
    path.write_text(
        "sources:\n- {match: [photos], tiles: 1, correctness: false}\n- {match: ['*'], tiles: 1, kinds: [as_asked]}\n"
    )
    return path


def written_and_waited(folder: Path, seen: int, seconds: float) -> bool:
    """Whether more is written than was seen; says so after a time."""
    if bytes_below(folder) <= seen:
        return False
    time.sleep(seconds)
    return True


@pytest.mark.slow
def test_kills_at_any_moment_leave_no_trace(
    built: Path, prompts: Path, taught_folder: Path, config: Path, tmp_path: Path
) -> None:
    """Each run is killed a little later than the one before, as soon as it has written something more."""
    folder, kills, seen = tmp_path / "out", 0, 0
    for attempt in range(40):
        arguments = command(prompts, folder, taught_folder, config, {"engine.num_workers": attempt % 2})
        if kills == 5:
            done = mpo(*arguments)
            assert done.returncode == 0, done.stderr
            break
        code = mpo_killed_when(partial(written_and_waited, folder, seen, 0.05 * attempt), *arguments)
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        seen, kills = bytes_below(folder) + 3000, kills + 1
    assert kills >= 3 and (folder / "manifest.json").exists()
    assert tree(folder) == tree(built)


@pytest.mark.slow
def test_two_devices_build_the_same_after_sigterm_too(
    built: Path, prompts: Path, taught_folder: Path, config: Path, tmp_path: Path
) -> None:
    arguments = command(prompts, tmp_path / "out", taught_folder, config, {"trainer.devices": 2})
    with started(sys.executable, "-m", "mpo_lightning", *arguments) as process:
        # The second device was started by the trainer before this one.
        wait_for((tmp_path / "out/responses/open.jsonl.parts").exists, 200)
        process.terminate()
        said = finish(process, 30)
        # Between two trainers by the signal itself, within one by the exit code of the same number.
        assert process.returncode in (143, -signal.SIGTERM) and "Traceback" not in said, said
        wait_for(lambda: not members(process), 30)
    done = ranks(2, "mpo", *arguments)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == tree(built)


def test_sample_pair_and_dropout_by_themselves(
    prompts: Path, taught_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    engine = ENGINE | {"model": str(taught_folder)}
    out = tmp_path / "r.jsonl"
    sample(
        str(prompts.parent / "text.jsonl"),
        str(out),
        samples=4,
        max_new_tokens=30,
        sources=SOURCES[1:],
        **nested(sample, engine),
    )
    rows = rows_of(out)
    assert len(rows) == 28 and rows[5]["sample"] == 1 and rows[5]["source"] == "text"
    assert json.loads((tmp_path / "r.jsonl.run.json").read_text())["samples"] == 4
    with pytest.raises(InputError, match="exists already"):
        sample(str(prompts.parent / "text.jsonl"), str(out), **nested(sample, engine))
    pair(str(out), str(tmp_path / "pairs"), workers=1)
    # The control of the reference: the picture is shown. A model of random weights has no end of words.
    engine["model"] = str(tiny_folder)
    meta = prompts.parent.parent / "mmpr.json"
    chosen = {
        "image": "astronaut.jpg",
        "question": "<image>\nWhat is this?",
        "chosen": "A woman in a suit stands there.",
        "rejected": "no",
    }
    meta.with_name("m.jsonl").write_text(
        json.dumps(chosen) + "\n" + json.dumps(chosen | {"rejected": "nothing"}) + "\n"
    )
    photos = next(entry.root for entry in read_meta(prompts) if entry.name == "photos")
    meta.write_text(json.dumps({"m": {"root": str(photos), "annotation": "m.jsonl"}}))
    for with_image, name in ((False, "m_prefix_pair_sr0.25_wo_image"), (True, "m_prefix_pair_sr0.25_with_image")):
        target = tmp_path / name
        dropout_ntp(
            str(meta),
            str(target),
            **nested(dropout_ntp, engine | SHORT | {"dropout.ratio": 0.25, "dropout.with_image": with_image}),
        )
        (entry,) = read_meta(target / "meta.json")
        (one,) = rows_of(entry.annotation)
        assert entry.name == name and one["chosen"].startswith("A woman in") and one["rejected"].startswith("A ")
    assert rows_of(tmp_path / "m_prefix_pair_sr0.25_wo_image" / "responses.jsonl") != rows_of(
        tmp_path / "m_prefix_pair_sr0.25_with_image" / "responses.jsonl"
    )


@pytest.fixture
def chosen(prompts: Path, tmp_path: Path) -> Path:
    """Pairs in MMPR's form, of two data sets."""
    photos = next(entry.root for entry in read_meta(prompts) if entry.name == "photos")
    pair = {
        "question": "<image>\nWhat is this?",
        "chosen": "A woman in a suit stands there.",
        "rejected": "no",
        "image": "astronaut.jpg",
    }
    (tmp_path / "m.jsonl").write_text(json.dumps(pair) + "\n")
    (tmp_path / "blind.jsonl").write_text(json.dumps(pair | {"image": None, "question": "What is this?"}) + "\n")
    meta = {name: {"root": str(photos), "annotation": f"{name}.jsonl"} for name in ("m", "blind")}
    (tmp_path / "mmpr.json").write_text(json.dumps(meta))
    return tmp_path / "mmpr.json"


def test_dropout_ntp_goes_on_after_a_kill_with_the_same_settings_only(
    chosen: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ENGINE | SHORT | {"model": str(tiny_folder), "dropout.ratio": 0.25}
    dropout_ntp(str(chosen), str(out), **nested(dropout_ntp, options))
    whole = tree(out)
    # A source without a pair keeps its counts.
    assert json.loads(whole["counts.json"])["blind"] == {"chosen": 1, "without a picture": 1}
    # Killed behind meta.json, and between the last two steps of sampling.
    (out / "counts.json").unlink()
    (out / "responses.jsonl.parts").mkdir()
    for other, sentence in (
        ({"dropout.ratio": 0.5}, "options.ratio 0.25 instead of 0.5"),
        ({"dropout.with_image": True}, "options.with_image"),
        ({"sampling.seed": 9}, "sampling.seed 0 instead of 9"),
        ({"engine.batch_size": 3}, "engine.batch_size"),
        ({"engine.dtype": "bfloat16"}, ("engine.dtype auto instead of bfloat16")),
    ):
        with pytest.raises(InputError, match=sentence):
            dropout_ntp(str(chosen), str(out), **nested(dropout_ntp, options | other))
    dropout_ntp(str(chosen), str(out), **nested(dropout_ntp, options))
    assert tree(out) == whole
    with pytest.raises(InputError, match="holds pairs already"):
        dropout_ntp(str(chosen), str(out), **nested(dropout_ntp, options))


def test_another_tokenizer_cuts_elsewhere_and_is_refused(chosen: Path, tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    options = ENGINE | SHORT | {"model": str(tiny_folder)}
    dropout_ntp(str(chosen), str(tmp_path / "out"), **nested(dropout_ntp, options))
    (tmp_path / "out" / "counts.json").unlink()
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.add_tokens(["woman in a"])
    tokenizer.save_pretrained(other)
    with pytest.raises(InputError, match="made with tokenizer"):
        dropout_ntp(str(chosen), str(tmp_path / "out"), tokenizer=str(other), **nested(dropout_ntp, options))


def test_sampling_that_was_killed_behind_its_last_line_is_tidied(
    prompts: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    engine = nested(sample, ENGINE)
    out, questions = tmp_path / "r.jsonl", str(prompts.parent / "text.jsonl")
    sample(questions, str(out), samples=1, max_new_tokens=2, model=str(tiny_folder), **engine)
    whole = tree(tmp_path)
    (tmp_path / "r.jsonl.parts").mkdir()
    (tmp_path / "r.jsonl.parts" / "meta.json").write_text("{}")
    (tmp_path / "r.jsonl.parts.lock").touch()
    sample(questions, str(out), samples=1, max_new_tokens=2, model=str(tiny_folder), **engine)
    assert tree(tmp_path) == whole and not (tmp_path / "r.jsonl.parts").exists()


def test_a_build_says_which_prompts_have_no_response_and_ends_with_3(
    prompts: Path, taught_folder: Path, tmp_path: Path
) -> None:
    """A prompt longer than the limit is one that the engine refuses."""
    lines = (prompts.parent / "text.jsonl").read_text().splitlines()
    long = json.loads(lines[0]) | {"question": "word " * 400 + "?"}
    (tmp_path / "q.jsonl").write_text("\n".join([*lines, json.dumps(long)]) + "\n")
    options = OPTIONS | {
        "samples": 16,
        "engine.max_length": 300,
        "model": str(taught_folder),
        "dropout.max_new_tokens": 8,
        "dropout.filters": (),
        "shards": False,
        "pairing.confidence": 0.0,
        "pairing.filters": (),
    }
    with pytest.raises(SystemExit) as stopped:
        build(
            str(tmp_path / "q.jsonl"), str(tmp_path / "out"), sources=SOURCES[1:], workers=1, **nested(build, options)
        )
    assert stopped.value.code == 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (reason,) = manifest["without_response"]["reasons"]
    assert manifest["without_response"]["prompts"] == 16 and "tokens" in reason
    counts = manifest["stages"]["correctness"]["q"]
    assert "empty" not in counts and counts["questions without a response"] == 1
    # Again: nothing to do, the same code.
    with pytest.raises(SystemExit) as stopped:
        build(
            str(tmp_path / "q.jsonl"), str(tmp_path / "out"), sources=SOURCES[1:], workers=1, **nested(build, options)
        )
    assert stopped.value.code == 3


def test_special_tokens_are_never_drawn(taught_folder: Path) -> None:
    import torch

    processor = load_processor(str(taught_folder))
    vocabulary = load_model(str(taught_folder), torch.float32).config.text_config.vocab_size
    forbidden = forbidden_ids(processor.tokenizer, processor.template, vocabulary + 5)
    end = processor.tokenizer.convert_tokens_to_ids(processor.template.end)
    named = {
        processor.tokenizer.convert_tokens_to_ids(mark)
        for mark in ("<IMG_CONTEXT>", "<img>", "<|im_start|>", "<|endoftext|>", "<box>")
    }
    assert named <= set(forbidden) and end not in forbidden and set(range(vocabulary, vocabulary + 5)) <= set(forbidden)
    # Where only forbidden ones are likely, one of the others is drawn.
    logits = torch.full((64, vocabulary + 5), -5.0)
    logits[:, forbidden] = 50.0
    drawn = Draws(Sampling(), range(64), forbidden)(torch.zeros(64, 1, dtype=torch.long), logits).argmax(-1)
    assert not set(drawn.tolist()) & set(forbidden)


def test_the_policy_that_was_just_trained_builds_the_next_round(
    built: Path, prompts: Path, taught_folder: Path, tmp_path: Path
) -> None:
    """Iterative use: sample, train, export, sample."""
    trainer, model, module = make_run(
        tmp_path / "run", taught_folder, built / "shards" / "train", trainer={"max_steps": 1}
    )
    trainer.fit(model, module)
    exported = tmp_path / "policy"
    from mpo_lightning.models.export import save_folder

    exported.mkdir()
    save_folder(model.policy.model, module.processor, exported)
    build(
        str(prompts),
        str(tmp_path / "next"),
        sources=SOURCES,
        workers=1,
        shards=False,
        model=str(exported),
        **nested(build, OPTIONS | {"dropout.max_new_tokens": 12, "pairing.confidence": 0.5}),
    )
    first, second = (
        json.loads((folder / "manifest.json").read_text())["settings"]["engine"]
        for folder in (built, tmp_path / "next")
    )
    assert first["model"] != second["model"] and second["checkpoint"] == "policy"
