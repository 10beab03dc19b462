"""vLLM and `transformers serve` with three kinds of language model: prompts, greedy and sampled responses.

By default what they said when `make servers` ran is said again; see `support.real_servers`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mpo_lightning.commands.server import alike, check_server
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import InputError
from mpo_lightning.inference.embedded import EmbeddedEngine
from mpo_lightning.inference.engine import Work
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.inference.server import ServerEngine
from mpo_lightning.models.sampling import Sampling
from support.real_servers import real_server
from support.served_models import KINDS, write_served

LIMIT_4 = ["--mm-processor-kwargs", '{"max_patches": 4, "max_dynamic_patch": 4}']
FROM_REQUESTS = ["--trust-request-mm-kwargs"]


@dataclass(frozen=True)
class Asked:
    """Prompts in memory."""

    prompts: tuple[Prompt, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, number: int) -> Prompt:
        return self.prompts[number]

    def where(self, number: int) -> str:
        return f"prompt {number}"

    def fields(self, number: int) -> dict[str, int]:
        return {"number": number}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("served")
    return {kind: write_served(kind, place / kind) for kind in KINDS}


@contextmanager
def vllm(folder: Path, *options: str) -> Iterator[str]:
    name = {(): "default", tuple(LIMIT_4): "limit_4", tuple(FROM_REQUESTS): "from_requests"}[options]
    with real_server("vllm", f"{folder.name}_{name}", folder, list(options)) as url:
        yield url


@pytest.mark.parametrize("kind", KINDS)
def test_vllm_with_a_limit_of_its_own(
    folders: dict[str, Path], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it serves by default, which is the folder's limit of 12."""
    folder = folders[kind]
    with vllm(folder) as url:
        check_server(url, str(folder), tokens=8)
        said = capsys.readouterr().out
        assert "6 prompts have the token ids of training" in said and "the server's own, 12 as asked" in said
        assert "the first 8 tokens are the same for 6 of 6" in said
        for other in (1, 4):  # what it would do to them is told, with the way out
            with pytest.raises(InputError, match=f'wider than the limit.*Likely cause: tiles.*max_patches": {other}'):
                check_server(url, str(folder), max_tiles=other)
        sampled(ServerEngine(url, "tiny", template=template_of(folder)), folder, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_vllm_that_takes_limits_from_requests(
    folders: dict[str, Path], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders[kind]
    with vllm(folder, *FROM_REQUESTS) as url:
        for limit in (1, 4, 12):
            check_server(url, str(folder), max_tiles=limit, tokens=8)
            assert "the first 8 tokens are the same for 7 of 7" in capsys.readouterr().out


def test_vllm_served_as_the_message_says(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with vllm(folders["qwen3"], *LIMIT_4) as url:
        check_server(url, str(folders["qwen3"]), max_tiles=4, tokens=0)
    assert "the server's own, 4 as asked" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_serve(folders: dict[str, Path], kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders[kind]
    with real_server("transformers", kind, folder, []) as url:
        check_server(url, str(folder), name=str(folder), server="transformers", tokens=8)
        said = capsys.readouterr().out
        assert "prompts have the numbers of tokens of training" in said and "tokens are the same" in said
        with pytest.raises(InputError, match=r"set it to 4 there, or max_tiles \(--engine\.max_tiles"):
            check_server(url, str(folder), name=str(folder), server="transformers", max_tiles=4)
        # Four draws of one prompt: not greedy, with any top_k.
        for top_k in (0, 50):
            asked = Asked((Prompt("Why?"),) * 4)
            work = Work(asked, f"these {top_k}", 8, Sampling(1.0, top_k, 1.0, 7))
            output = folder / f"drawn-{top_k}.jsonl"
            output.unlink(missing_ok=True)
            engine = ServerEngine(url, str(folder), "transformers", at_once=1, checkpoint=str(folder))
            assert engine.answer(work, output) == (4, 0)
            assert len({json.loads(line)["response"] for line in output.read_text().splitlines()}) > 1


def sampled(engine: ServerEngine, folder: Path, tmp_path: Path) -> None:
    """Sampled responses, and ones that go on from a beginning, without the image and with it."""
    photo = (Path(__file__).parents[2] / "examples/mmpr_sample/images/photos/chelsea.jpg").read_bytes()
    about, text = Prompt("<image>\nWhat is this?", (photo,)), Prompt("What is 3 + 4?")
    work = Work(Asked((about, text, about, text)), "sampled", 8, Sampling(1.0, 50, 1.0, 7))
    assert engine.answer(work, tmp_path / "sampled.jsonl") == (4, 0)
    record = json.loads((tmp_path / "sampled.jsonl.server.json").read_text())
    assert record["compared_by"] == "ids" and record["tile_limit"] == "server"
    begun = Asked(tuple(Prompt(one.question, one.images, begun="First,\n") for one in (about, text)))
    engine.answer(Work(begun, "begun", 8), tmp_path / "there.jsonl")
    here = EmbeddedEngine(str(folder), EngineOptions(num_workers=0), TrainerOptions("cpu", "1"))
    here.answer(Work(begun, "begun", 8), tmp_path / "here.jsonl")
    rows = [
        [
            json.loads(line)["response"].replace("\ufffd", "")
            for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
        ]
        for name in ("there", "here")
    ]
    assert all(alike(there, here) for there, here in zip(*rows, strict=True)), rows


def template_of(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["template"])
