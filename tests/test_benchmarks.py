"""The benchmarks run as their pages say and find the same loss on both sides; how fast they are is not a test's
business.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_step_benchmark_compares_like_with_like(root: Path, tmp_path: Path) -> None:
    words = [
        "--kinds",
        "text",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--batch-size",
        "1",
        "--no-ablation",
        "--json",
        str(tmp_path / "step.json"),
    ]
    done = subprocess.run(
        [sys.executable, "benchmarks/step.py", *words], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "step.json").read_text())["text"]
    assert set(found) >= {"vs_oracle", "vs_oracle_live_reference", "results", "gflop"}
    losses = [line["loss"] for line in found["results"].values()]
    assert len(losses) == 3 and max(losses) - min(losses) < 1e-4


def test_without_a_device_of_that_kind_the_sizes_benchmark_still_teaches(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/step.py", "--preset", "toy", "--help"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "--checkpointing" not in done.stdout and "--optimizer" in done.stdout


def test_the_index_benchmark_opens_what_it_generates(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/index.py", "--records", "12000", "--json", str(tmp_path / "index.json")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "index.json").read_text())
    assert found["sets"][0]["records"] == found["peer"]["records"] == 12000 and found["open_ratio"] > 0


@pytest.mark.slow
def test_a_killed_run_is_the_undisturbed_one(root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/faults.py",
        "--kills",
        "1",
        "--setups",
        "single",
        "--questions",
        "--json",
        str(tmp_path / "faults.json"),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "faults.json").read_text())
    assert (
        found["kills"] == 1
        and found["lost"] == found["repeated"] == found["differing_steps"] == 0
        and found["bit_identical"] is True
    )
