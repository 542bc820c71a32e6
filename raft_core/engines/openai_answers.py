"""Read the answers of an endpoint, and decide whether enough requests were answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from raft_core.engines.base import Completion, FinishReason, OpenAIConfig, answer_text, failed
from raft_core.errors import EngineError

# OpenAI's strict schemas are objects, so the choice is a field of one.
CHOICE_FIELD = "answer"
LONGEST_ANSWER = 1_000_000  # characters; twice what the largest allowed `max_tokens` can hold
# Finish reasons under which a text must not pass for a whole answer.
NO_ANSWER = {
    "content_filter": "cut off by the endpoint's content filter",
    "tool_calls": "a call of a tool instead of an answer",
    "function_call": "a call of a tool instead of an answer",
}


def choice_schema(choices: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of an answer that is one of these strings."""
    return {
        "type": "object",
        "properties": {CHOICE_FIELD: {"type": "string", "enum": list(choices)}},
        "required": [CHOICE_FIELD],
        "additionalProperties": False,
    }


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the `response_format` that asks for JSON of this schema."""
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


def read_answer(response: Any) -> Completion:
    """Return the completion in a chat response, which the client does not check.

    Reasoning is no part of the answer, be it a field of its own or a block before the answer. A
    refusal or an empty answer is an answer without text, with what there is to say in `error`;
    anything that is not of the chat format is a failure.
    """
    try:
        if not response.choices:
            return failed("the endpoint returned no choice")
        choice = response.choices[0]
        message, finished = choice.message, choice.finish_reason
        said = message.content
    except (AttributeError, TypeError, KeyError):
        return failed("the endpoint's response is not of the chat format")
    if not isinstance(said, str | None):
        return failed(f"the endpoint's answer is a {type(said).__name__}, not text")
    if not isinstance(finished, str | None):
        return failed("the endpoint's reason to finish is no text")
    token_ids = getattr(choice, "token_ids", None) or []
    if not isinstance(token_ids, list) or not all(type(i) is int for i in token_ids):
        return failed("the endpoint's token ids are no list of numbers")
    if problem := _unusable(said or ""):
        return failed(f"the endpoint's answer {problem}")
    if finished in NO_ANSWER:
        return Completion("", tuple(token_ids), "stop", NO_ANSWER[finished])
    reason: FinishReason = "length" if finished == "length" else "stop"
    text = _without_reasoning(said or "")
    return Completion(text, tuple(token_ids), reason, "" if text else _lacking(message))


def read_choice(completion: Completion, choices: Sequence[str]) -> Completion:
    """Return the completion whose text is the choice in its JSON object.

    Anything but that object is an answer without text.
    """
    if not completion.text:
        return completion
    try:
        fields = json.loads(completion.text)
    except (ValueError, RecursionError):
        fields = None
    text, error = "", f"not of the schema that was asked for: {completion.text}"[:300]
    if isinstance(fields, dict) and list(fields) == [CHOICE_FIELD]:
        choice = fields[CHOICE_FIELD]
        if isinstance(choice, str) and choice in choices:
            text, error = choice, ""
    return Completion(text, completion.token_ids, completion.finish_reason, error)


def tokens_used(response: Any) -> int | None:
    """Return the tokens of prompt, reasoning and completion; None if the endpoint tells none."""
    total = getattr(getattr(response, "usage", None), "total_tokens", None)
    return total if type(total) is int and total >= 0 else None


def require_answers(
    completions: Sequence[Completion], config: OpenAIConfig, max_failed_share: float
) -> None:
    """Fail the stage if too many requests failed; a few cost only their rows.

    Raises:
        EngineError: more than this share of the requests failed.
    """
    errors = [c.error for c in completions if c.finish_reason == "error"]
    if len(errors) > max_failed_share * len(completions):
        raise EngineError(
            f"endpoint '{config.endpoint}', model '{config.model}': {len(errors)} of "
            f"{len(completions)} requests failed, the first with {errors[0]}. Mend the endpoint "
            "and run again, or raise its max_failed_share"
        )


def _unusable(text: str) -> str:
    """Return what keeps a text from being written or read again, or an empty string."""
    if len(text) > LONGEST_ANSWER:
        return f"has {len(text):,} characters, over {LONGEST_ANSWER:,}"
    if "\0" in text:
        return "holds a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "holds half of a character"
    return ""


def _without_reasoning(said: str) -> str:
    """Remove the thinking block; one that was cut off before its end left no answer."""
    text = answer_text(said)
    return "" if text.startswith("<think>") else text


def _lacking(message: Any) -> str:
    """Return why there is no text."""
    if refusal := getattr(message, "refusal", None):
        return f"refused: {refusal}"[:300].encode(errors="replace").decode()
    thought = any(getattr(message, name, None) for name in ("reasoning_content", "reasoning"))
    if thought or (message.content or "").strip():
        return "reasoning without an answer"
    return "an empty answer"
