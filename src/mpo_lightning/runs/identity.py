"""What a resumed run must share with the run of its checkpoint: options that affect a step, and the initial models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpo_lightning.files.digests import folder_sample


class RunIdentity:
    """Identity of a run; stored in checkpoints and compared when a run resumes.

    Args:
        options: options of the run by name, as plain values.
        folders: model folders by the names of their options.
        open_folder: maps the folder that the user gave to the one that holds the model's weights.
    """

    def __init__(self, options: dict[str, Any], folders: dict[str, str], open_folder: Callable[[str], Path]) -> None:
        self.options = options
        self.folders = folders
        self.open_folder = open_folder
        self._samples: dict[str, str] | None = None

    def state_dict(self) -> dict[str, dict[str, Any]]:
        if self._samples is None:
            self._samples = {name: folder_sample(self.open_folder(folder)) for name, folder in self.folders.items()}
        return {"options": self.options, "folders": self.folders, "samples": self._samples}

    def difference(self, before: dict[str, dict[str, Any]]) -> str | None:
        """Describes the first difference to the checkpoint's run as a sentence; None if there is none.

        Args:
            before: `state_dict` of the checkpoint's run; empty in checkpoints of earlier versions.
        """
        now = self.state_dict()
        for kind, said in (
            ("options", "{name} {before}, not {now}"),
            ("samples", "{name} {folder}, whose weights are not those of {ours}"),
        ):
            for name, value in before.get(kind, {}).items():
                if name in now[kind] and now[kind][name] != value:
                    words = said.format(
                        name=name,
                        before=value,
                        now=now[kind][name],
                        folder=before["folders"].get(name),
                        ours=self.folders.get(name),
                    )
                    return (
                        f"the checkpoint was made with {words}; use that, or start a new run in another "
                        "trainer.default_root_dir"
                    )
        return None
