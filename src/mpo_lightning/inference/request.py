"""The fields of a request to a server, which differ between kinds of servers: sampling, images, tile limits."""

import base64
import json
from io import BytesIO
from typing import Any, Literal

from mpo_lightning.data.pictures import Pixels, open_picture, seen_otherwise
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.models.draws import mixed_seed
from mpo_lightning.models.sampling import Sampling

Kind = Literal["vllm", "sglang", "lmdeploy", "transformers", "openai"]


def drawn_by(kind: Kind, sampling: Sampling | None, number: int) -> dict[str, Any]:
    """Returns the sampling fields of a request.

    Args:
        kind: kind of the server.
        sampling: sampling options; None is greedy.
        number: number of the response.
    """
    if sampling is None:
        return {"temperature": 0.0}
    request: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": mixed_seed(sampling.seed, number) % 2**31,
    }
    if not sampling.top_k:
        return request
    if kind == "transformers":
        return request | {"extra_body": {"generation_config": json.dumps({"do_sample": True, "top_k": sampling.top_k})}}
    return request | {"extra_body": {"top_k": sampling.top_k}}


def content_of(prompt: Prompt, tiles: int | None, pixels: Pixels = "seen") -> list[dict[str, Any]] | str:
    """Returns a prompt as a message: its texts, with its images at their marks.

    Args:
        prompt: the prompt.
        tiles: maximum tiles for the prompt's images, if the server takes it with each image; otherwise None.
        pixels: whether images are sent as a person sees them, or with the reference's pixels.

    Raises:
        BadRecord: an image cannot be used.
    """
    if not prompt.images:
        return prompt.question
    texts = prompt.question.split(IMAGE_MARK)
    content: list[dict[str, Any]] = []
    for place, text in enumerate(texts):
        if text.strip():
            content.append({"type": "text", "text": text.strip("\n")})
        if place < len(prompt.images):
            picture: dict[str, Any] = {"url": picture_url(prompt.images[place], pixels)}
            if tiles is not None:
                picture["max_dynamic_patch"] = max(1, tiles // len(prompt.images))
            content.append({"type": "image_url", "image_url": picture})
    return content


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
