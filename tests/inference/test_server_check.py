"""Whether a server's prompts are the trainer's: each way in which they differ is found, named, and stops the run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mpo_lightning.commands.server import alike
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import InputError
from mpo_lightning.inference.chat import ChatServer
from mpo_lightning.inference.engine import Work
from mpo_lightning.inference.server import ServerEngine
from mpo_lightning.inference.trained_prompts import BOS, OTHER, SPACE, SYSTEM, TILES, TrainedPrompts
from mpo_lightning.models.loading import load_processor
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.sampling import Sampling
from support.commands import mpo
from support.model_server import model_server

pytest.importorskip("openai")


@pytest.fixture(scope="module")
def processor(golden: Path) -> Processor:
    """InternLM2's, whose tokenizer puts a token before every text."""
    return load_processor(golden / "checkpoints" / "internlm2_gqa")


def check(url: str, **options: object) -> ServerEngine:
    return ServerEngine(url, "tiny", **options)  # type: ignore[arg-type]


def serving(engine: ServerEngine) -> dict[str, object]:
    return engine.serving(ChatServer(engine.url, "tiny", "the model")).record()


def test_each_cause_is_told_from_the_ids(processor: Processor) -> None:
    here = TrainedPrompts(processor, 4)
    ((_, text), (_, image), *_) = here.probes(False)
    for prompt in (text, image):
        ours = here.ids(prompt)
        assert here.cause(ours, ours[1:]) == here.cause(ours, [ours[0], *ours]) == BOS

        def other(prompt: Prompt = prompt, limit: int = 4, **changes: object) -> list[int]:
            template = replace(processor.template, **changes)  # type: ignore[arg-type]
            return TrainedPrompts(replace(processor, template=template), limit).ids(prompt)

        assert here.cause(ours, other(other_system="Be brief.")) == SYSTEM
        assert here.cause(ours, other(other_system="")) == SYSTEM
        spaced = replace(prompt, question=prompt.question.replace(" is", "\nis"))
        assert here.cause(ours, other(spaced)) == SPACE
        assert here.cause(ours, other(user_prefix="<|im_start|>human\n")) == OTHER
    assert here.cause(here.ids(image), other(image, limit=2)) == TILES
    assert "from token 0 on" in here.first_difference([1, 2], [2]) and "its end" in here.first_difference([1, 2], [1])


def test_each_cause_is_told_from_a_number(processor: Processor) -> None:
    here = TrainedPrompts(processor, 4)
    assert here.cause_by_count(-3 * processor.tokens_per_tile) == TILES
    assert here.cause_by_count(-1) == BOS and SYSTEM in here.cause_by_count(-41)


def test_a_limit_of_its_own_must_be_the_runs(tiny_folder: Path, tmp_path: Path) -> None:
    wide = TrainedPrompts(load_processor(tiny_folder), 4).probes(False)[1][1].images[0]  # four tiles
    with model_server(tiny_folder, own_limit=4) as (url, requests):
        assert serving(check(url, max_tiles=4)) == {
            "tile_limit": "server",
            "prompts_compared": 6,
            "compared_by": "ids",
        }
        for limit in (1, 3, 5, 12):
            with pytest.raises(
                InputError, match=rf"Likely cause: tiles.*\"max_patches\": {limit}, .*--trust-request-mm"
            ):
                serving(check(url, max_tiles=limit))
        asked = replace(Prompt("<image>\n<image>\nWhich?", (wide, wide)), fields={"id": 0})
        prompts = Listed([Prompt("Why?"), asked])
        assert check(url, max_tiles=4, at_once=1).answer(Work(prompts, "two", 4), tmp_path / "out.jsonl") == (2, 1)
        refused = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1])["error"]
        assert refused.startswith("the second: it has several images") and "--trust-request-mm-kwargs" in refused
        assert not any("mm_processor_kwargs" in request for request in requests)


class Listed:
    """Prompts in memory."""

    def __init__(self, prompts: list[Prompt]) -> None:
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, number: int) -> Prompt:
        return self.prompts[number]

    def where(self, number: int) -> str:
        return ("the first", "the second")[number]

    def fields(self, number: int) -> dict[str, object]:
        return {}


def test_a_model_with_another_system_message_is_another_model(tiny_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"system_message": "Be brief, be kind, and do not guess."}))
    with model_server(tiny_folder) as (url, requests):
        for kind, words in (("vllm", "from token "), ("transformers", "tokens there and ")):
            assert serving(check(url, kind=kind, checkpoint=str(other), on_difference="warn"))["prompts_compared"] == 0
            with pytest.raises(InputError, match=f"a text has .*{words}.*Likely cause: system message"):
                serving(check(url, kind=kind, checkpoint=str(other)))
        done = mpo("prefs", "check-server", "--url", url, "--model", other)
        assert done.returncode == 2 and "Likely cause: system message" in done.stderr
        assert all(request["max_tokens"] == 1 for request in requests)


def test_parts_of_characters_are_no_difference() -> None:
    assert (
        alike("a\ufffd\ufffdhow", "ahow") and alike("\ufffdhow", "ihow") and alike("x", "x") and alike("ok", "ok\ufffd")
    )
    assert not alike("a\ufffdhow", "ahow much") and not alike("yes", "no") and not alike("", "no")


def test_a_prompt_that_the_server_refuses_or_does_not_count_stops_nothing(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_image(number: int, request: dict[str, object]) -> str | None:
        return "refuse" if str(request["messages"]).count("image_url") > 2 else None  # each part has it twice

    with model_server(tiny_folder, one_image) as (url, _):
        found = serving(check(url, kind="transformers"))
    assert found == {"tile_limit": "server", "prompts_compared": 6, "compared_by": "counts"}
    with model_server(tiny_folder, lambda number, request: "refuse") as (url, _):
        assert serving(check(url, kind="openai"))["compared_by"] == "nothing"
    assert "refuses a text, which is not compared" in capsys.readouterr().err
    with (
        model_server(tiny_folder, lambda number, request: "garbage") as (url, _),
        pytest.raises(InputError, match="its reply cannot be read"),
    ):
        serving(check(url, kind="sglang"))


def test_an_older_vllm_says_one_token_for_an_image(processor: Processor) -> None:
    here = TrainedPrompts(processor, 4)
    (_, (_, image), *_) = here.probes(False)
    ours = here.ids(image)
    token = processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    first = ours.index(token)
    one = ours[: first + 1] + [number for number in ours[first:] if number != token]
    assert here.unexpanded(ours, one) and not here.unexpanded(ours, ours) and not here.unexpanded(ours, one[1:])


def test_what_is_not_known_is_said(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with model_server(tiny_folder, own_limit=4, root="/of/another/machine") as (url, _):
        found = serving(check(url, max_tiles=12))
    said = capsys.readouterr().err
    assert found == {"tile_limit": "not known", "prompts_compared": 0, "compared_by": "nothing"}
    assert "give --engine.checkpoint" in said and "its own holds, whatever --engine.max_tiles says" in said


def test_a_temperature_that_the_server_refuses(tmp_path: Path) -> None:
    work = Work(Listed([Prompt("Why?")]), "hot", 4, Sampling(temperature=2.5))
    with pytest.raises(InputError, match="takes temperatures up to 2"):
        check("http://localhost:9/v1").answer(work, tmp_path / "out.jsonl")


def test_the_command_says_what_it_compared(tiny_folder: Path) -> None:
    with model_server(tiny_folder) as (url, _):
        done = mpo("prefs", "check-server", "--url", url, "--model", tiny_folder, "--tokens", "4")
    assert done.returncode == 0, done.stderr
    assert "7 prompts have the token ids of training" in done.stdout and "taken from each request" in done.stdout
    assert "the first 4 tokens are the same for 7 of 7" in done.stdout
