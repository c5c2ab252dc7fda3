"""What can go wrong with models; every message is a plain sentence with the cause and a way out."""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be fetched, loaded or used."""


class ModelNotFound(ModelError):
    """No such catalog name, hub id, folder or file."""


class ModelGated(ModelError):
    """The hub wants the user to log in or to accept a licence first."""


class ModelOffline(ModelError):
    """The network or the server cannot be reached, and the model is not on this machine yet."""


class ModelUnsupported(ModelError):
    """The model's architecture or file kind is none that this program can run."""


class ModelTooLarge(ModelError):
    """The weights do not fit into the memory of the chosen device."""


class ModelDamaged(ModelError):
    """Files are missing, cut short, altered or not what they claim to be."""


class DeviceUnavailable(ModelError):
    """The chosen device or dtype does not exist on this machine."""


class NoDiskSpace(ModelError):
    """The disk is too full for the download or the conversion."""


class PackageMissing(ModelError):
    """An optional package is not installed, or does not work on this machine."""


class PipMissing(ModelError):
    """The default model comes through pip, and this Python has none."""


BY_NAME: dict[str, type[ModelError]] = {
    kind.__name__: kind
    for kind in (
        ModelError,
        ModelNotFound,
        ModelGated,
        ModelOffline,
        ModelUnsupported,
        ModelTooLarge,
        ModelDamaged,
        DeviceUnavailable,
        NoDiskSpace,
        PackageMissing,
        PipMissing,
    )
}
