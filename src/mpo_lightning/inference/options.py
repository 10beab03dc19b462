"""Options that every verb which asks a model shares: the engine that answers, and the devices that it runs on."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mpo_lightning.data.pictures import Pixels
from mpo_lightning.errors import InputError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
OnDifference = Literal["stop", "warn"]
Reasoning = Literal["apart", "front"]
Server = Literal["vllm", "sglang", "lmdeploy", "transformers", "openai"]


@dataclass(frozen=True)
class TrainerOptions:
    """Devices that the embedded engine runs on, by Lightning's Trainer.

    Attributes:
        accelerator: accelerator of Lightning's Trainer, such as cpu or gpu.
        devices: number of devices on each machine, or their numbers.
        num_nodes: number of machines; start the same command on each with torchrun or srun.
    """

    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1

    def __post_init__(self) -> None:
        if self.num_nodes < 1:
            raise InputError(f"--trainer.num_nodes must be at least 1, got {self.num_nodes}")

    def as_dict(self) -> dict[str, Any]:
        """Keyword arguments of Lightning's Trainer."""
        return asdict(self)


@dataclass(frozen=True)
class EngineOptions:
    """The engine that writes responses: the model in this program, or a server that speaks OpenAI's protocol.

    Attributes:
        kind: embedded runs the model here, on any number of devices; openai asks a server.
        url: address of the server, such as http://localhost:8000/v1; openai is OpenAI's own, with the key in
            OPENAI_API_KEY.
        server: kind of server, for what OpenAI's protocol has no field for: top_k, tiles, continued responses.
        checkpoint: folder of the model that the server has (weights are not read); the server's prompts are compared
            with those that training makes, and a difference stops the run. Default the folder that the server names, if
            this machine has it.
        on_difference: where a prompt of the server differs from the trainer's, stop ends the run and warn says it.
        at_once: number of concurrent requests to the server.
        timeout: seconds until a request counts as failed and is sent again.
        template: chat template; auto takes the one that the checkpoint's files say; DropoutNTP needs a server's name.
        system_message: auto takes the one that the checkpoint's files say, none leaves it out, default is the
            template's own, thinking asks InternVL3.5 to think; else the text itself. A server gets it as a turn, and
            with auto or none applies its own chat template alone.
        reasoning: where a server sends thoughts apart: apart keeps them beside the response; front writes them in front
            of it, between the model's marks.
        max_tiles: most tiles of a question's images, thumbnails not counted, where its source sets no limit.
        pixels: seen takes images as a person sees them; reference takes the released code's pixels, which differ for
            images that are transparent, of 16 bits, or turned by EXIF.
        max_length: most tokens of a prompt; a longer one is refused.
        batch_size: responses that a device writes at once; sampled responses depend on it in their last digits.
        dtype: dtype of weights and arithmetic; auto is bfloat16 on a GPU and float32 on a CPU.
        num_workers: loader processes of each device.
    """

    kind: Literal["embedded", "openai"] = "embedded"
    url: str | None = None
    server: Server = "vllm"
    checkpoint: str | None = None
    on_difference: OnDifference = "stop"
    at_once: int = 32
    timeout: float = 600.0
    template: str = "auto"
    system_message: str = "auto"
    reasoning: Reasoning = "apart"
    max_tiles: int = 12
    pixels: Pixels = "seen"
    max_length: int = 8192
    batch_size: int = 32
    dtype: Dtype = "auto"
    num_workers: int = 2

    def of_pictures(self) -> dict[str, Any]:
        """Returns the settings that decide how images are cut, for the record of a run."""
        return {"max_tiles": self.max_tiles} | ({} if self.pixels == "seen" else {"pixels": self.pixels})

    def __post_init__(self) -> None:
        for name in ("at_once", "max_tiles", "max_length", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--engine.{name} must be at least 1, got {getattr(self, name)}")
        if self.num_workers < 0 or self.timeout <= 0:
            raise InputError(
                "--engine.num_workers must be at least 0 and --engine.timeout above 0, got "
                f"{self.num_workers} and {self.timeout}"
            )
        if (self.kind == "openai") != (self.url is not None):
            raise InputError(
                "--engine.kind openai needs --engine.url with the server's address, such as http://localhost:8000/v1"
                if self.kind == "openai"
                else "--engine.url is for --engine.kind openai"
            )
