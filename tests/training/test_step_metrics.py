"""The clock of a step."""

import pytest
import torch

from mpo_lightning.training import step_metrics
from mpo_lightning.training.step_metrics import NAMES, StepMeter


def test_time_spent_in_validation_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 100.0, 103.0, 110.0, 112.0, 112.0])
    monkeypatch.setattr(step_metrics.time, "perf_counter", lambda: next(now))
    meter = StepMeter()  # at 100
    meter.restart()  # at 100
    meter.pause()  # at 103
    meter.go_on()  # at 110
    sums = torch.zeros(len(NAMES), dtype=torch.float64)
    sums[NAMES.index("pairs")] = 20
    meter.add(sums)
    _, counts = meter.finish(lambda values: values)  # at 112: 12 seconds, 7 of them paused
    assert counts["pairs_per_second"] == pytest.approx(20 / 5)
