"""MPO on the same pairs in the same number of steps, with more and more pairs of one question in the same step.

One base model and several pair sets of up to fifteen pairs a question. Accuracy on the validation problems, to choose
`data.pairs_per_question` by, and on the test problems; and the noise of a step's gradient at the base's weights: its
variance from step to step over the square of its mean.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch

from miniature.cells import Base, Cell
from miniature.commands import Command
from miniature.files import write_whole
from miniature.loop import Study
from miniature.study import (
    REDUCED,
    Setting,
    Size,
    build_command,
    eval_command,
    exported,
    home_of,
    shards,
    tune_command,
)
from miniature.summary import difference
from mpo_lightning.evals.compare import Run, compare, read_run

GROUPS = (1, 2, 4, 15)
SETTING = Setting("MPO", 3e-5, 1.0)
"""The setting that MPO got in the miniature (docs/miniature.md)."""
NOISE_STEPS = 48


class GroupStudy(Study):
    """A study of the order of pairs."""

    def compare_groups(self, pair_sets: int) -> str:
        """Trains and measures; returns a table in Markdown."""
        cells = [Cell(Base(0), number, "cool") for number in range(pair_sets)]
        self._world([cells[0].base], list(range(pair_sets)))
        self._bases([cells[0].base])
        self._all([build_command(self.folder, cell, self.size) for cell in cells], "pairs")
        runs = [(cell, group) for cell in cells for group in GROUPS]
        self._all([self._training(cell, group) for cell, group in runs], "training")
        homes = [home_of(cell, _named(group)) for cell, group in runs]
        kinds = ("validation", "greedy")
        measured = [
            eval_command(self.folder, home, exported(self.folder / home), kind, self.size)
            for home in homes
            for kind in kinds
        ]
        self._all(measured, "measured")
        table = self._table(cells)
        write_whole(self.folder / "question_groups.md", table + "\n")
        return table

    def _training(self, cell: Cell, group: int) -> Command:
        """One epoch over the pairs, in the order of this group size."""
        command = tune_command(self.folder, cell, SETTING, self.size)
        plain, home = self.folder / home_of(cell, SETTING), home_of(cell, _named(group))
        words = [self.folder / home if word == plain else word for word in command.words]
        words += ["--data.pairs_per_question", group]
        return Command(f"{cell.name}-groups-{group}", words, f"{home}/version_*/export/model.safetensors")

    def _table(self, cells: list[Cell]) -> str:
        lines = [
            "| pairs together | validation, % | over 1 (95 %) | test, % | over 1 (95 %) | p of each set | noise |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for group in GROUPS:
            fields, tests = [str(group)], ""
            for kind in ("validation", "greedy"):
                found = [{number: self._run(cell, number, kind) for number in map(str, GROUPS)} for cell in cells]
                fields.append(f"{100 * mean(mean(runs[str(group)].right.values()) for runs in found):.1f}")
                beside = difference(found, str(group), "1", tested=False)
                fields.append(
                    f"{beside['mean']:+.1f} ({beside['low']:+.1f} to {beside['high']:+.1f})" if group > 1 else ""
                )
                tests = ", ".join(f"{compare([runs['1'], runs[str(group)]])[1].p:.2g}" for runs in found)
            fields.append(tests if group > 1 else "")
            fields.append(f"{mean(self._noise(cell, group) for cell in cells):.2f}")
            lines.append(f"| {' | '.join(fields)} |")
        return "\n".join(lines)

    def _run(self, cell: Cell, group: str, kind: str) -> Run:
        return read_run(self.folder / home_of(cell, _named(int(group))) / kind)

    def _noise(self, cell: Cell, group: int) -> float:
        """Variance of a step's gradient over the square of its mean, both without bias."""
        count, total, squares = 0, torch.zeros(1, dtype=torch.float64), 0.0
        for gradient in self._step_gradients(cell, group):
            count, total, squares = count + 1, total + gradient, squares + float(gradient.square().sum())
        variance = (squares - float(total.square().sum()) / count) / (count - 1)
        return variance / (float((total / count).square().sum()) - variance / count)

    def _step_gradients(self, cell: Cell, group: int) -> Iterator[torch.Tensor]:
        """The gradient of each of the first steps at the base's weights, which are the reference's too."""
        from mpo_lightning.models.loading import load_model
        from mpo_lightning.models.rows.pair_forward import PairForward
        from mpo_lightning.objectives import MPOObjective
        from mpo_lightning.training import MMPRDataModule

        model, steps = str(exported(self.folder / cell.base.name / "fit")), NOISE_STEPS
        data = MMPRDataModule(
            model,
            str(shards(self.folder, cell)),
            global_batch_size=self.size.batch,
            micro_batch_size=self.size.batch,
            pairs_per_question=group,
            max_tiles=1,
            max_length=256,
            num_workers=0,
            seed=0,
        )
        forward, objective = PairForward(load_model(model)).train(), MPOObjective(beta=SETTING.beta)
        for batch in data.train_dataloader():
            logps, _ = forward(batch)
            reference = type(logps)(
                logps.chosen.detach(), logps.rejected.detach(), logps.chosen_tokens, logps.rejected_tokens
            )
            loss = (objective(logps, reference, 0.0).total * batch.weights).sum() / batch.step_pairs
            loss.backward()
            if batch.last_of_step:
                parts = [parameter.grad for parameter in forward.parameters() if parameter.grad is not None]
                yield torch.cat([part.flatten() for part in parts]).double()
                forward.zero_grad()
                steps -= 1
                if not steps:
                    return


def _named(group: int) -> Setting:
    return Setting(f"MPO-groups-{group}", SETTING.rate, SETTING.beta)


def main() -> None:
    """Entry point; see benchmarks/question_groups.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/question_groups"))
    parser.add_argument("--pair-sets", type=int, default=3)
    parser.add_argument("--reduced", action="store_true", help="to try the machinery: its numbers mean nothing")
    parser.add_argument("--at-once", type=int, default=2, help="commands at a time, one core each")
    options = parser.parse_args()
    size = REDUCED if options.reduced else Size(questions=600, pairs_per_question=15, base_epochs=3)
    print(GroupStudy(options.output, size, options.at_once).compare_groups(options.pair_sets))
