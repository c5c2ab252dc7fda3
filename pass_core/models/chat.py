"""Chat models: one message in the model's own template."""

from __future__ import annotations

from pass_core.models.errors import ModelUnsupported
from pass_core.models.language_model import LanguageModel


def has_chat_template(model: LanguageModel) -> bool:
    """Whether the model's tokenizer brings a chat template."""
    return bool(getattr(model.tokenizer, "chat_template", None))


def chat_text(model: LanguageModel, message: str, *, system: str | None = None) -> str:
    """A user's message as the model expects it, up to where its answer begins.

    Raises:
        ModelUnsupported: the model has no chat template, or it does not take these roles.
    """
    if not has_chat_template(model):
        raise ModelUnsupported(f"{model.name} has no chat template. Leave chat off, or choose an instruct model.")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": message})
    try:
        return str(model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates are programs; they raise what they like
        raise ModelUnsupported(f"The chat template of {model.name} refuses this message: {error}") from error


def chat_ids(model: LanguageModel, message: str, *, system: str | None = None) -> list[int]:
    """Token ids of `chat_text`; the template brings its own start token, so none is added."""
    encoded = model.tokenizer(chat_text(model, message, system=system), add_special_tokens=False)
    return [int(i) for i in encoded["input_ids"]]
