"""From a prompt to token ids: the chat template where one is asked for, special tokens added once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pass_core.models.language_model import LanguageModel
from pass_core.prompt import ChatTemplateError, Message, Prompt, PromptError


def encode(model: LanguageModel, prompt: Prompt | str | Sequence[int]) -> list[int]:
    """Token ids of a prompt.

    A plain text gets the special tokens that the tokenizer adds by habit; an empty one becomes the start token where
    the model has one. A chat template brings its own special tokens, so none are added to what it renders.

    Raises:
        PromptError: an empty prompt for a model without a start token, or ids outside the vocabulary.
        ChatTemplateError: see `chat_text`.
    """
    if isinstance(prompt, str):
        prompt = Prompt(prompt)
    if not isinstance(prompt, Prompt):
        ids = [int(i) for i in prompt]
    elif prompt.chat:
        ids = _tokenized(model, rendered(model, prompt), special=False)
    else:
        ids = _tokenized(model, prompt.text, special=True) if prompt.text else []
    if not ids:
        start = getattr(model.tokenizer, "bos_token_id", None)
        if start is None:
            raise PromptError("The prompt is empty, and this model has no start token. Write at least one word.")
        ids = [int(start)]
    vocabulary = model.vocabulary_size
    if any(not 0 <= i < vocabulary for i in ids):
        raise PromptError(f"The prompt holds token ids outside the model's vocabulary of {vocabulary}.")
    return ids


def starting_ids(model: LanguageModel) -> list[int]:
    """The special tokens that `encode` puts before a plain text ([] for many models): text that is cut from documents
    gets them, too, where it shall read to the model as a prompt does."""
    if model.tokenizer is None:
        return []
    plain, whole = (_tokenized(model, "a", special=special) for special in (False, True))
    for before in range(len(whole) - len(plain) + 1):
        if whole[before : before + len(plain)] == plain:
            return whole[:before]
    return []


def rendered(model: LanguageModel, prompt: Prompt) -> str:
    """The text that the model reads: the prompt's own, or what the chat template makes of it.

    Raises:
        ChatTemplateError: see `chat_text`.
    """
    if not prompt.chat:
        return prompt.text
    return chat_text(model, prompt.text, system=prompt.system, before=prompt.before) + prompt.answer


def has_chat_template(model: LanguageModel) -> bool:
    """Whether the model's tokenizer brings a chat template."""
    return bool(getattr(model.tokenizer, "chat_template", None))


def chat_text(model: LanguageModel, message: str, *, system: str = "", before: Sequence[Message] = ()) -> str:
    """A user's message as the model expects it after the turns `before`, up to where its answer begins.

    Some templates take `content` as a list of parts instead of a text; both forms are tried.

    Raises:
        ChatTemplateError: the model has no chat template, or the template refuses the roles, or what it renders lacks
            the message.
    """
    if not has_chat_template(model):
        raise ChatTemplateError(f"{model.name} has no chat template. Switch chat off, or choose an instruct model.")
    turns = [(m.role.value, m.text) for m in before]
    roles = ([("system", system)] if system else []) + turns + [("user", message)]
    failure: Exception | None = None
    for as_content in (str, _parts):
        messages = [{"role": role, "content": as_content(text)} for role, text in roles]
        try:
            text = str(model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # templates are programs of the model's authors and raise what they like
            failure = failure or error
            continue
        if all(_contains(text, given) for _, given in roles):
            return text
    if failure is not None:
        about = "these messages" if len(roles) > 1 else "this message"
        raise ChatTemplateError(
            f"The chat template of {model.name} refuses {about} ({_first_line(failure)}). "
            "Switch chat off to send the text as it is."
        ) from failure
    lost = "the system message" if system else "an earlier message" if before else "the message"
    raise ChatTemplateError(
        f"The chat template of {model.name} leaves {lost} out. Switch chat off to send the text as it is."
    )


def default_system(model: LanguageModel) -> str:
    """The system message that the model's template puts in where a chat has none; "" where it puts none, or cannot."""
    given, message = "\u2060system\u2060", "\u2060message\u2060"
    try:
        with_it, without = chat_text(model, message, system=given), chat_text(model, message)
    except ChatTemplateError:
        return ""
    head, _, tail = with_it.partition(given)
    fits = without.startswith(head) and without.endswith(tail) and len(without) >= len(head) + len(tail)
    return without[len(head) : len(without) - len(tail)] if fits else ""


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _contains(text: str, given: str) -> bool:
    """Whether a template kept a message: as it is, trimmed, or as a JSON string."""
    return given.strip() in text or json.dumps(given, ensure_ascii=False)[1:-1].strip() in text


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _tokenized(model: LanguageModel, text: str, *, special: bool) -> list[int]:
    encoded: Any = model.tokenizer(text, add_special_tokens=special)
    return [int(i) for i in encoded["input_ids"]]
