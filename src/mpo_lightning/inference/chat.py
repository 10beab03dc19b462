"""Sends one request to a server with OpenAI's protocol and classifies what comes back."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpo_lightning.data.encoding import THINKING_MARKS
from mpo_lightning.errors import BadRecord, InputError

Messages = list[dict[str, Any]]
REASON = 1000
"""Most characters of a server's reason for a refusal, which often names the way out at its end."""
REFUSALS = (400, 413, 415, 422)
"""Status codes that mean the request, not the server, is at fault."""


@dataclass(frozen=True)
class Reply:
    """A server's response.

    Attributes:
        text: text of the response.
        tokens: number of its tokens, if the server reports it.
        finished: whether the model ended the response; otherwise it was cut off at the limit.
        reasoning: the model's thoughts, if the server sends them apart from the response.
    """

    text: str
    tokens: int | None
    finished: bool
    reasoning: str | None = None

    @property
    def with_thoughts(self) -> str:
        """The response behind its thoughts, as the model wrote them: between its marks, then a newline."""
        if not self.reasoning:
            return self.text
        begin, end = THINKING_MARKS
        between = "" if self.text[:1].isspace() else "\n"
        return f"{begin}{self.reasoning}{end}{between}{self.text}"


ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "end"}
CUT = {"length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens"}
"""Spellings of a response's end, in lower case: ended by the model, and cut at the limit."""


FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds to wait before the second attempt, and at most; waits double.

The openai library uses the same values for a server that is busy or fails.
"""

ASKED_WRONGLY = {
    401: "the key is missing or wrong; set the environment variable {key}",
    403: "the key may not use it; set the environment variable {key}",
    404: "there is no model '{model}' or the address is wrong; the URL of most servers ends in /v1",
}
"""What the user can do about each status code."""


class Refused(BadRecord):
    """The server or its model declines one request; the message has its reason."""


class UnreadableReply(Exception):
    """The server's reply is not a response: no JSON, no choice, no text, or incomplete."""


class ChatServer:
    """A server with OpenAI's protocol: OpenAI's own, vLLM, SGLang, LMDeploy, ...

    Args:
        url: URL of the server, ending in /v1; None is OpenAI's.
        model: name of the model to request.
        purpose: role of the server, for messages.
        timeout: seconds until a request counts as failed.
        attempts: number of retries while the server is busy, fails or cannot be reached; waits grow from half a second
            to eight.
        key_variable: environment variable with the API key; self-hosted servers often need none.

    Raises:
        InputError: the package openai is not installed, or there is no key.
    """

    def __init__(
        self,
        url: str | None,
        model: str,
        purpose: str,
        timeout: float = 180.0,
        attempts: int = 6,
        key_variable: str = "OPENAI_API_KEY",
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise InputError(
                f"{purpose} on a server needs the package openai: pip install 'mpo-lightning[servers]'"
            ) from None
        key = os.environ.get(key_variable)
        if not key and url is None:
            raise InputError(
                f"the environment variable {key_variable} is not set; set it to the key of OpenAI's server, or give "
                "the URL of another one"
            )
        self.model, self.url, self.purpose = model, url, purpose
        self._openai, self._attempts, self._key_variable = openai, attempts, key_variable
        # The library itself waits and retries if a server is busy, fails or does not answer.
        self._client = openai.OpenAI(api_key=key or "none", base_url=url, max_retries=attempts, timeout=timeout)

    def chat(self, messages: Messages, **request: Any) -> Reply:
        """Returns the reply to a chat.

        An empty response is requested once more and then accepted.

        Args:
            messages: messages in OpenAI's format.
            request: further request fields: temperature, max_tokens, seed, extra_body, ...

        Raises:
            Refused: the server refuses this request; the message has its reason.
            UnreadableReply: the reply is not a response, also after retries.
            InputError: the server does not answer.
        """
        asked: Any = messages
        limit = request.get("max_tokens")
        return self._asked(
            lambda: self._client.chat.completions.create(model=self.model, messages=asked, **request), limit
        )

    def complete(self, prompt: str, **request: Any) -> Reply:
        """Returns the continuation of a text; otherwise as `chat`."""
        limit = request.get("max_tokens")
        return self._asked(lambda: self._client.completions.create(model=self.model, prompt=prompt, **request), limit)

    @property
    def place(self) -> str:
        """The server's address, for messages."""
        return self.url or "api.openai.com"

    def served(self) -> dict[str, str]:
        """Returns the names of the models that are served, each with the folder it was loaded from, "" if not said."""
        try:
            models = list(self._client.models.list())
        except (self._openai.OpenAIError, ValueError):
            return {}
        return {model.id: str(getattr(model, "root", None) or "") for model in models}

    def prompt_ids(self, messages: Messages, fields: dict[str, Any]) -> list[int] | None:
        """Returns the token ids of a chat by vLLM's `/tokenize`; None if the server has no such page.

        Args:
            messages: messages in OpenAI's format.
            fields: further fields of a request.

        Raises:
            Refused: the server refuses this chat.
            InputError: the server does not answer.
        """
        body = {"model": self.model, "messages": messages} | fields
        page = f"{str(self.url).rstrip('/').removesuffix('/v1')}/tokenize"
        found = self._told(lambda: self._client.post(page, body=body, cast_to=object), missing=(404, 405, 501))
        tokens = found.get("tokens") if isinstance(found, dict) else None
        return [int(one) for one in tokens] if isinstance(tokens, list) else None

    def prompt_count(self, messages: Messages, fields: dict[str, Any]) -> int | None:
        """Returns the number of tokens of a chat, with a response of one token; None if the server does not say it.

        Raises:
            Refused: the server refuses this chat.
            InputError: the server does not answer, or not in a form that can be read.
        """
        asked: Any = messages
        options: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "extra_body": fields}
        create = self._client.chat.completions.create
        found = self._told(lambda: create(model=self.model, messages=asked, **options))
        count = getattr(getattr(found, "usage", None), "prompt_tokens", None)
        return int(count) if count else None

    def _told(self, send: Callable[[], Any], missing: tuple[int, ...] = ()) -> Any:
        """Returns what the server sends; None for these status codes."""
        try:
            return send()
        except self._openai.APIStatusError as error:
            if error.status_code in REFUSALS:
                raise Refused(f"the server refuses it ({_short(error, REASON)})") from None
            if error.status_code in missing:
                return None
            raise self._gone(error) from None
        except (self._openai.APIResponseValidationError, ValueError) as error:
            raise InputError(f"{self.purpose} at {self.place}: its reply cannot be read ({_short(error)})") from None
        except self._openai.OpenAIError as error:
            raise self._gone(error) from None

    def _asked(self, send: Any, limit: int | None) -> Reply:
        wordless: Reply | None = None
        for attempt in range(self._attempts):
            try:
                reply = _reply(send(), limit)
                if reply.text.strip() or wordless is not None:
                    return reply
                wordless = reply
            except self._openai.APIStatusError as error:
                if error.status_code in REFUSALS:
                    raise Refused(f"the server refuses it ({_short(error, REASON)})") from None
                raise self._gone(error) from None
            except BadRecord:
                raise
            # ValueError: the reply is not JSON.
            except (self._openai.APIResponseValidationError, UnreadableReply, ValueError) as error:
                if attempt + 1 == self._attempts:
                    raise UnreadableReply(_short(error)) from None
                time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt))
            except self._openai.OpenAIError as error:
                raise self._gone(error) from None
        assert wordless is not None
        return wordless

    def _gone(self, error: Exception) -> InputError:
        where = self.place
        status = getattr(error, "status_code", None)
        if status in ASKED_WRONGLY:
            way_out = ASKED_WRONGLY[status].format(key=self._key_variable, model=self.model)
            return InputError(
                f"{self.purpose} at {where} answers with status {status}: {way_out}, and run it again; answers so "
                "far are kept"
            )
        said = f"status {status}: {_short(error)}" if status else _short(error)
        return InputError(
            f"{self.purpose} at {where} does not answer ({said}); answers so far are kept, run it again to resume"
        )


def _short(error: Exception, most: int = 200) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.{most}}"


def _reply(answer: Any, limit: int | None) -> Reply:
    """Converts a chat or completion to a reply.

    Args:
        answer: what the server sent.
        limit: most tokens that were asked for; tells the end of a response whose server does not.

    Raises:
        Refused: the server or its model declines, or it wrote thoughts and no response.
        UnreadableReply: it is not a response.
    """
    choices = getattr(answer, "choices", None)
    if not choices:
        raise UnreadableReply("a reply without an answer")
    message = getattr(choices[0], "message", None)
    text = message.content if message is not None else getattr(choices[0], "text", None)
    reason = getattr(choices[0], "finish_reason", None)
    refusal = getattr(message, "refusal", None)
    if reason == "content_filter" or refusal:
        raise Refused(f"the server refuses it ({' '.join(str(refusal or 'content filter').split()):.200})")
    ended = str(reason).lower()
    untold = reason is None and bool(text)
    if not isinstance(text, str | None) or not (untold or ended in ENDED or ended in CUT):
        raise UnreadableReply(f"a reply that broke off (finish_reason {reason!r})")
    tokens = getattr(getattr(answer, "usage", None), "completion_tokens", None)
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if not (text or "").strip() and reasoning:
        raise Refused(
            "the model wrote thoughts and no response: raise the limit of new tokens, or turn its thinking off on the "
            "server"
        )
    finished = ended not in CUT and not (untold and limit is not None and tokens is not None and tokens >= limit)
    return Reply(
        whole_characters(text or ""),
        tokens,
        finished,
        whole_characters(str(reasoning)) if reasoning else None,
    )


def whole_characters(text: str) -> str:
    """Returns a text that can be written to a file.

    Surrogate pairs become their character; a lone surrogate becomes U+FFFD.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
