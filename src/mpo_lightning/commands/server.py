"""`mpo prefs check-server`: whether a server's prompts are those that training makes."""

import re
from typing import Any

from mpo_lightning.data.pictures import Pixels
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.inference.options import Server


def check_server(
    url: str,
    model: str,
    name: str | None = None,
    server: Server = "vllm",
    max_tiles: int = 12,
    template: str = "auto",
    system_message: str = "auto",
    pixels: Pixels = "seen",
    tokens: int = 16,
    timeout: float = 600.0,
) -> None:
    """Compares the prompts of a server with those that training makes, and its greedy responses with this package's.

    It asks for texts and images in several places, and images at and above the tile limit. At the first difference it
    says which token differs, the likely cause and the way out. Sampling and evals on a server compare the prompts by
    themselves at their start. For example:
    mpo prefs check-server --url http://localhost:8000/v1 --model MODEL

    Args:
        url: address of the server, ending in /v1.
        model: folder of the model that is served; for the prompts alone its weights are not needed.
        name: name of the model on the server; default the only one that it serves.
        server: kind of server.
        max_tiles: most tiles of a prompt's images that sampling will ask for.
        template: chat template; auto takes the one that the folder's files say.
        system_message: as --engine.system_message.
        pixels: as --engine.pixels.
        tokens: tokens of the greedy responses that are compared, for which the weights are loaded here; 0 compares the
            prompts alone.
        timeout: seconds until a request counts as failed.
    """
    from mpo_lightning.inference.chat import ChatServer
    from mpo_lightning.inference.server import ServerEngine

    if tokens < 0 or max_tiles < 1:
        raise InputError(f"--tokens must be at least 0 and --max_tiles at least 1, got {tokens} and {max_tiles}")
    asked = ChatServer(url, name or "", "the model", timeout)
    asked.model = name or _only_model(asked)
    engine = ServerEngine(
        url,
        asked.model,
        server,
        template=None if template == "auto" else template,
        system_message=system_message,
        timeout=timeout,
        max_tiles=max_tiles,
        pixels=pixels,
        checkpoint=model,
    )
    serving = engine.serving(asked)
    if serving.by == "nothing":
        raise InputError(f"{asked.model} at {url}: no prompt could be compared")
    what = "token ids" if serving.by == "ids" else "numbers of tokens"
    limit = {
        "request": "taken from each request",
        "server": f"the server's own, {max_tiles} as asked; prompts that it would cut otherwise are refused",
        "not known": "not known",
    }
    print(f"{asked.model} at {url}: {len(serving.compared)} prompts have the {what} of training")
    print(f"  tile limit: {limit[serving.tile_limit]}")
    if tokens:
        different = _compare_responses(engine, asked, serving, model, tokens)
        same = len(serving.compared) - len(different)
        print(f"  greedy responses: the first {tokens} tokens are the same for {same} of {len(serving.compared)}")
        for line in different:
            print(f"    {line}")
        if same < len(different):
            raise InputError(
                "most greedy responses differ, though the prompts are the same: other weights, or an attention that "
                "computes something else"
            )
        if different:
            print("  arithmetic in 16 bits may decide between two tokens; with float32 there, all should be the same")


def _only_model(server: Any) -> str:
    served = list(server.served())
    if len(served) != 1:
        raise InputError(
            f"{server.place}: serves {', '.join(served)}; give --name"
            if served
            else f"{server.place}: does not say which models it serves; is it running? Else give --name"
        )
    return str(served[0])


def _compare_responses(engine: Any, server: Any, serving: Any, folder: str, tokens: int) -> list[str]:
    """Asks server and model for greedy responses, and returns a line for each that differs."""
    from mpo_lightning.inference.chat import UnreadableReply
    from mpo_lightning.inference.request import drawn_by
    from mpo_lightning.models.freeze import freeze
    from mpo_lightning.models.generation import encode_prompt, generate, pad_prompts
    from mpo_lightning.models.loading import load_model

    trained, model, different = serving.prompts, freeze(load_model(folder)), []
    for label, prompt in serving.compared:
        encoded = pad_prompts([encode_prompt(trained.encoder, prompt)])
        (here,) = generate(model, trained.processor, encoded, tokens)
        request = drawn_by(engine.kind, None, 0)
        extra = request.pop("extra_body", {}) | serving.tile_fields(engine.kind, prompt)
        try:
            there = server.chat(engine.messages(prompt), max_tokens=tokens, extra_body=extra, **request)
        except (BadRecord, UnreadableReply) as error:
            raise InputError(f"{server.place}, asked for a response to {label}: {error}") from None
        ours, theirs = here.text.strip(), there.text.strip()
        if not alike(ours, theirs):
            pairs = enumerate(zip(ours, theirs, strict=False))
            same = next((n for n, (one, other) in pairs if one != other), min(len(ours), len(theirs)))
            different.append(
                f"{label}, from character {same} on: {theirs[same:][:40]!r} at the server, {ours[same:][:40]!r} here"
            )
    return different


def alike(one: str, other: str) -> bool:
    """Whether two texts of the same tokens may differ so. Bytes that are no whole character, as a cut response or an
    untrained model has, become U+FFFD in other numbers, or nothing, or take the byte in front along.
    """

    def covers(first: str, second: str) -> bool:
        parts = re.split("\ufffd+", first)
        return re.fullmatch(".*".join(map(re.escape, parts)), second, re.DOTALL) is not None

    return covers(one, other) or covers(other, one)
