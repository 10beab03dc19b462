"""Kills runs with kill -9 at random moments, resumes them, and compares each with an undisturbed run.

    python benchmarks/faults.py [--kills 100] [--setups single ddp fsdp2] [--questions] [--json FILE]

Each setup (one process, two that train together, two that hold half of each weight) trains a tiny model on the sample
pairs for 28 steps, once undisturbed and then under kills. A kill hits all processes at a moment drawn over the run:
model loading, steps, checkpoint writes after every step, validation, the epoch's end. There are 0, 2 or 3 loader
workers in turn. Runs resume with --ckpt_path auto. Every step records its pairs and its loss, every validation its
loss. All that was ever computed, replays included, and the final weights are compared with the undisturbed run of the
same setup. In a setup whose name ends in -last, last.ckpt is the only checkpoint and is overwritten each time. With
--questions there are three pairs of each question, which stay together.

    kills            number of kills
    lost, repeated   records that the killed runs missed, or used twice, against the undisturbed run
    differing_steps  steps and validations, replays counted, whose records or loss differ in a bit, or that never came
    bit_identical    whether all final weights are the same bits and no step differed
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 2
TOGETHER = 3
"""Pairs of one question in a step, where a question has several."""
SETUPS = {
    "single": "single",
    "ddp": "ddp_cpu",
    "fsdp2": "fsdp2_cpu",
    "single-last": "single",
    "fsdp2-last": "fsdp2_cpu",
}
"""Overlays of configs/strategy."""


def callbacks(run: Path, setup: str) -> list[str]:
    """Options for a checkpoint after every step, beside those of base.yaml or instead of them, and for the recorder."""
    training = "mpo_lightning.training"
    if not setup.endswith("-last"):
        return [
            "--trainer.callbacks+=recorder.Recorder",
            f"--trainer.callbacks.path={run / 'steps.jsonl'}",
            f"--trainer.callbacks+={training}.StepCheckpoint",
            "--trainer.callbacks.every_n_train_steps=1",
            "--trainer.callbacks.save_top_k=2",
            "--trainer.callbacks.monitor=step",
            "--trainer.callbacks.mode=max",
        ]
    last = {"every_n_train_steps": 1, "save_last": True, "save_top_k": 0}
    chosen = [
        {"class_path": "recorder.Recorder", "init_args": {"path": str(run / "steps.jsonl")}},
        {"class_path": f"{training}.StepCheckpoint", "init_args": last},
        {"class_path": f"{training}.ExportPolicy"},
    ]
    return [f"--trainer.callbacks={json.dumps(chosen)}"]


def command(work: Path, run: Path, setup: str, workers: int) -> list[str]:
    overlays = ["base", "recipe/mpo", f"strategy/{SETUPS[setup]}"]
    words = [part for name in overlays for part in ("--config", str(ROOT / "configs" / f"{name}.yaml"))]
    return [
        sys.executable,
        "-m",
        "mpo_lightning",
        "fit",
        *words,
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        f"--trainer.max_epochs={EPOCHS}",
        f"--trainer.default_root_dir={run}",
        "--trainer.enable_progress_bar=false",
        *callbacks(run, setup),
        f"--model.policy={work / 'model'}",
        "--model.gradient_checkpointing=false",
        "--model.optimizer.lr=1e-3",
        f"--data.train={work / 'shards/train'}",
        f"--data.validation={work / 'shards/validation'}",
        "--data.global_batch_size=4",
        "--data.micro_batch_size=2",
        f"--data.pairs_per_question={TOGETHER}",
        f"--data.num_workers={workers}",
        "--data.max_length=1024",
        "--ckpt_path=auto",
    ]


def start(work: Path, run: Path, setup: str, workers: int) -> subprocess.Popen[str]:
    run.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'benchmarks'}",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.Popen(
        command(work, run, setup, workers),
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=(run / "out.log").open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def lines(run: Path) -> list[dict[str, Any]]:
    path = run / "steps.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def weights(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    newest = max(run.glob("version_*/export/model.safetensors"), key=lambda path: path.stat().st_mtime)
    return dict(load_file(newest))


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


LIMIT = 900.0
"""Seconds that one process may take; a run of 28 steps takes one to three minutes on two busy cores."""


def ended(process: subprocess.Popen[str], run: Path) -> int:
    """Exit code of a process; one that does not end within the limit is killed, and the benchmark with it."""
    try:
        return process.wait(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        kill(process)
        sys.exit(
            f"a process of the run did not end within {LIMIT:.0f} seconds; its last words "
            f"are\n{(run / 'out.log').read_text()[-2000:]}"
        )


def wait_for_training(process: subprocess.Popen[str], run: Path, before: int) -> None:
    """Waits until the resumed run has computed a step, or has ended."""
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and len(lines(run)) <= before:
        time.sleep(0.02)
        if time.monotonic() > deadline:
            kill(process)
            sys.exit(f"no step within {LIMIT:.0f} seconds; the last words are\n{(run / 'out.log').read_text()[-2000:]}")


def disturbed_run(setup: str, work: Path, run: Path, rng: random.Random, seconds: float, left: int) -> int:
    """Kills a run up to `left` times, lets it end, and returns the kills."""
    kills = 0
    while True:
        process = start(work, run, setup, rng.choice([0, 2, 3]))
        if kills < left:
            if rng.random() < 0.8:  # the rest is killed while it starts
                wait_for_training(process, run, len(lines(run)))
            deadline = time.monotonic() + rng.uniform(0, seconds)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.005)
        else:
            ended(process, run)
        if process.poll() is None:
            kill(process)
            kills += 1
        elif process.returncode == 0:
            return kills
        else:
            sys.exit(
                f"the run ended with {process.returncode}; {run / 'out.log'} ends "
                f"with\n{(run / 'out.log').read_text()[-2000:]}"
            )


def torment(setup: str, work: Path, rng: random.Random, kills: int) -> dict[str, Any]:
    """Kills runs of a setup this often, and compares each run with the undisturbed one."""
    import torch

    whole = work / f"{setup}-whole"
    process = start(work, whole, setup, 0)
    wait_for_training(process, whole, 0)
    began = time.monotonic()
    if ended(process, whole):
        sys.exit((whole / "out.log").read_text()[-2000:])
    seconds, expected, truth = time.monotonic() - began, {line["step"]: line for line in lines(whole)}, weights(whole)
    report: dict[str, Any] = {name: 0 for name in COUNTS} | {"bit_identical": True}
    while report["kills"] < kills:
        run = work / f"{setup}-{report['runs']}"
        report["kills"] += disturbed_run(setup, work, run, rng, seconds, kills - report["kills"])
        report["runs"] += 1
        found = lines(run)
        report["differing_steps"] += sum(line != expected.get(line["step"]) for line in found)
        report["differing_steps"] += len(expected.keys() - {line["step"] for line in found})
        taken, planned = (
            Counter(key for line in {line["step"]: line for line in part}.values() for key in line["keys"])
            for part in (found, expected.values())
        )
        report["lost"] += sum((planned - taken).values())
        report["repeated"] += sum((taken - planned).values())
        same = all(torch.equal(value, truth[name]) for name, value in weights(run).items())
        report["bit_identical"] = bool(report["bit_identical"] and same and not report["differing_steps"])
        progress = (
            f"{setup}, run {report['runs']}: {len(found)} steps computed for {len(expected)}; so far "
            f"{json.dumps(report)}"
        )
        print(progress, file=sys.stderr, flush=True)
    return report


COUNTS = ("kills", "runs", "lost", "repeated", "differing_steps")


def questions(work: Path) -> Path:
    """As many pairs of fewer questions: each third question of the sample, with its own rejected answer and the two
    that follow.
    """
    sample, entries = ROOT / "examples/mmpr_sample", {}
    for name, entry in json.loads((sample / "meta.json").read_text()).items():
        rows = [json.loads(line) for line in (sample / entry["annotation"]).read_text().splitlines()]
        pairs = [
            row | {"rejected": other["rejected"], "id": f"{name}-{first}-{number}"}
            for first, row in list(enumerate(rows))[::TOGETHER]
            for number, other in enumerate(rows[first : first + TOGETHER])
        ]
        path = work / f"{name}.jsonl"
        path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        entries[name] = entry | {"root": str(sample / entry["root"]), "annotation": str(path), "length": len(pairs)}
    (work / "meta.json").write_text(json.dumps(entries))
    return work / "meta.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="over all setups together")
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=["single", "ddp", "fsdp2"])
    parser.add_argument("--questions", action="store_true", help="three pairs of each question, kept together")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    from mpo_lightning.commands.data import shard
    from mpo_lightning.commands.model import tiny

    rng = random.Random(arguments.seed)
    shares = [arguments.kills * (place + 1) // len(arguments.setups) for place in range(len(arguments.setups))]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shard(
            str(questions(work) if arguments.questions else ROOT / "examples/mmpr_sample/meta.json"),
            str(work / "shards"),
            validation=0.125,
            shard_megabytes=0.3,
            workers=1,
        )
        tiny(str(work / "model"))
        parts = {
            setup: torment(setup, work, rng, end - begin)
            for setup, begin, end in zip(arguments.setups, [0, *shares[:-1]], shares, strict=True)
        }
    report: dict[str, Any] = {name: sum(part[name] for part in parts.values()) for name in COUNTS}
    report |= {"bit_identical": all(part["bit_identical"] for part in parts.values()), "setups": parts}
    print("setup         kills   runs   lost   repeated   differing steps   bit-identical")
    for setup, part in parts.items():
        numbers = (
            f"{part['kills']:5}  {part['runs']:5}  {part['lost']:5}  {part['repeated']:9}  {part['differing_steps']:16}"
        )
        print(f"{setup:<13} {numbers}   {'yes' if part['bit_identical'] else 'NO'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    if report["lost"] or report["repeated"] or not report["bit_identical"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
