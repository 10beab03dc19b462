"""The fields of a request to a server, which differ between kinds of servers: sampling, images, tile limits."""

import base64
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

from mpo_lightning.data.pictures import Pixels, open_picture, seen_otherwise
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.models.draws import mixed_seed
from mpo_lightning.models.sampling import Sampling

Kind = Literal["vllm", "sglang", "lmdeploy", "transformers", "openai"]

EXACT = ("vllm", "transformers")
"""Servers that apply the chat template of an exported folder, which puts texts and images where they stand."""

ALL_TOKENS = {"vllm": 0, "sglang": -1, "lmdeploy": 0}
"""How each server writes a top_k that sets no limit."""

LEAST_BIAS = -100
"""Lowest bias of a token in OpenAI's protocol; such a token is not drawn."""


def drawn_by(kind: Kind, sampling: Sampling | None, number: int, forbidden: Sequence[int] = ()) -> dict[str, Any]:
    """Returns the sampling fields of a request. All are set, since a server's defaults may be those of the folder.

    Args:
        kind: kind of the server.
        sampling: sampling options; None is greedy.
        number: number of the response.
        forbidden: token ids that a response may not contain, where servers can be told so.
    """
    request: dict[str, Any] = {"temperature": 0.0}
    if sampling is not None:
        seed = mixed_seed(sampling.seed, number) % 2**31
        request = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed}
    extra: dict[str, Any] = {}
    if kind == "transformers":
        # Without it this server draws nothing.
        drawn = {"do_sample": False} if sampling is None else {"do_sample": True, "top_k": sampling.top_k}
        extra["generation_config"] = json.dumps(drawn)
    elif kind != "openai":
        extra |= {"min_p": 0.0, "repetition_penalty": 1.0}
        if sampling is not None:
            extra["top_k"] = sampling.top_k or ALL_TOKENS[kind]
            extra |= {"logit_bias": {str(one): LEAST_BIAS for one in forbidden}} if forbidden else {}
    return request | ({"extra_body": extra} if extra else {})


def tile_fields(kind: Kind, prompt: Prompt, tiles: int) -> dict[str, Any]:
    """Returns the fields of a request that limit the tiles of its images, on servers that take them so.

    Folders in transformers' layout know the limit as `max_patches`, those in OpenGVLab's as `max_dynamic_patch`; each
    drops the other.
    """
    if kind != "vllm" or not prompt.images:
        return {}
    each = max(1, tiles // len(prompt.images))
    return {"mm_processor_kwargs": {"max_patches": each, "max_dynamic_patch": each}}


def content_of(
    prompt: Prompt, tiles: int | None, pixels: Pixels = "seen", own_template: bool = True
) -> list[dict[str, Any]] | str:
    """Returns a prompt as a message: its texts, with its images at their marks.

    Args:
        prompt: the prompt.
        tiles: maximum tiles for the prompt's images, if the server takes it with each image; otherwise None.
        pixels: whether images are sent as a person sees them, or with the reference's pixels.
        own_template: whether the server applies the chat template of an exported folder (see `internvl.jinja`), which
            puts texts as they are. An empty text behind an image tells it to add no newline. Other servers' templates
            add newlines, so texts are sent without. The usual newline behind an image is left to any template.

    Raises:
        BadRecord: an image cannot be used.
    """
    if not prompt.images:
        return prompt.question
    first, *behind = prompt.question.split(IMAGE_MARK)
    content = _text(first, own_template)
    for number, (image, text) in enumerate(zip(prompt.images, behind, strict=True), 1):
        picture: dict[str, Any] = {"url": picture_url(image, pixels)}
        if tiles is not None:
            picture["max_dynamic_patch"] = max(1, tiles // len(prompt.images))
        content.append({"type": "image_url", "image_url": picture})
        if own_template and text[:1] == "\n" and (text[1:2].strip() or (text == "\n" and number < len(behind))):
            text = text[1:]  # any template of InternVL adds it, also one that does not put texts as they are
        elif own_template and text == text.lstrip():
            content.append({"type": "text", "text": ""})
        content += _text(text, own_template)
    if content[-1].get("text") == "":
        content.pop()
    return content


def _text(text: str, own_template: bool) -> list[dict[str, Any]]:
    if not own_template:
        text = text.strip("\n") if text.strip() else ""
    return [{"type": "text", "text": text}] if text else []


def picture_url(data: bytes, pixels: Pixels = "seen") -> str:
    """Returns an image as a data URL; one that servers may not support or read otherwise is converted to PNG.

    Raises:
        BadRecord: the image cannot be decoded.
    """
    picture = open_picture(data, pixels)
    media = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png"}.get(data[:2])
    if media is None or seen_otherwise(data):
        buffer = BytesIO()
        picture.save(buffer, format="PNG")
        media, data = "image/png", buffer.getvalue()
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
