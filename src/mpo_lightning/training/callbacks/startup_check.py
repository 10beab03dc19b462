"""A check before the first step: do the loss and the margin equal what the objective predicts?

At the start policy and reference are the same, so every reward is 0 and each term has a known value: for MPO the total
is 0.8 ln 2 + 0.2 * 2 ln 2 + NLL = 0.832 + NLL, and the margin 0. If the numbers differ, the run is broken in a way that
its loss curve would not show for hours: dropout that is on in evaluation, a wrong reference, weights in another dtype.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.errors import InputError
from mpo_lightning.runs.agreement import stop_together
from mpo_lightning.training.module import MPOModule

TOLERANCE = {"float32": 1e-3, "reduced": 5e-2}
"""Largest difference of the total (relative to it, at least 1 nat) and of the margin, for 32- and 16-bit arithmetic."""


class StartupCheck(L.Callback):
    """Measures the first batch in eval mode and stops the run if policy and reference do not agree.

    The check is skipped if a run resumes, policy and reference are different folders, or there is no reference.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx > 0 or trainer.ckpt_path is not None:
            return
        assert isinstance(pl_module, MPOModule) and isinstance(batch, PairBatch)
        models = pl_module.models.options
        if not pl_module.objective.needs_reference:
            rank_zero_info("start-up check: skipped, the objective has no reference to compare with")
        elif Path(models.reference_folder).resolve() != Path(models.policy).resolve():
            rank_zero_info("start-up check: skipped, policy and reference are different folders")
        else:
            self._check_every_rank(trainer, pl_module, batch)

    def _check_every_rank(self, trainer: L.Trainer, module: MPOModule, batch: PairBatch) -> None:
        problem = None
        try:
            words = self.check(trainer, module, batch)
        except InputError as error:
            problem = str(error)
        stop_together(problem)
        rank_zero_info(words)

    @torch.no_grad()
    def check(self, trainer: L.Trainer, module: MPOModule, batch: PairBatch) -> str:
        """Returns the total and the margin beside their predictions, in words.

        The prediction is the losses' closed form (`PreferenceLoss.at_start`). A user's own loss without one has only
        its margin checked.

        Raises:
            InputError: they differ by more than the tolerance of the run's precision.
        """
        module.eval()
        try:
            with trainer.precision_plugin.forward_context():
                policy, reference = module.models.logps(batch)
        finally:
            module.train()
        assert reference is not None
        if not len(policy.chosen):
            return "start-up check: skipped, the first batch has no pair"
        measured = module.objective(policy, reference, delta=0.0)
        assert measured.rewards_chosen is not None and measured.rewards_rejected is not None
        margin = float((measured.rewards_chosen - measured.rewards_rejected).abs().max())
        total = float(measured.total.mean())
        generation = (
            module.objective.weights.generation * float(measured.generation.mean())
            if measured.generation is not None
            else 0.0
        )
        start = module.objective.at_start()
        tolerance = TOLERANCE["float32" if str(trainer.precision).startswith("32") else "reduced"]
        known = (
            f"predicted {start + generation:.4f} ({start:.4f} + generation {generation:.4f})"
            if start is not None
            else "no prediction"
        )
        words = (
            f"start-up check: total {total:.4f}, {known}; largest margin {margin:.2g}, predicted 0; tolerance "
            f"{tolerance:g}"
        )
        agrees = start is None or abs(total - start - generation) <= tolerance * max(1.0, abs(start + generation))
        if agrees and margin <= tolerance:
            return words
        raise InputError(
            f"{words}. Policy and reference should be the same before step 0. Likely causes: dropout or drop path "
            "that stays on in eval mode; a folder that changed between loading the two; an adapter that does not "
            "start at zero; weights in different dtypes"
        )
