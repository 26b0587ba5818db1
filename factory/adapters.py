"""Adapters: what a text-to-image model has learned of single classes, and the root they lie in.

A root of adapters looks like this:

    spec.json                       what all concepts share, with its fingerprint; created once
    asked.json                      the classes that the newest run was asked for
    adapters/bag-3fa9c1d2/          the adapter of a class, in the format that diffusers loads
    records/bag.json                the record of a class, written last
    pictures/bag.png                its real images beside images drawn before and after

The name of an adapter's folder holds its digest, so that no late attempt puts other files under a
record.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from factory.records import ASKED_NAME, SPEC_NAME, Device, read_root
from factory.spec import Frozen, SpecError
from factory.store import Store

ROOT_KIND = "adapters"
"""`kind` in the identity of a root of adapters."""
AdapterKind = Literal["textual_inversion", "lora", "full"]


class Asked(Frozen):
    """Content of asked.json."""

    class_names: tuple[str, ...]


class Adapter(Frozen):
    """The record of one class: the proof that its adapter exists."""

    schema_version: Literal[1] = 1
    fingerprint: str
    """Of all that its bytes depend on."""
    class_name: str
    kind: AdapterKind
    """A word's vectors, LoRA weights, or a whole pipeline."""
    folder: str
    """Name of its folder in the root."""
    phrase: str
    """What a prompt says for the class, e.g. "<bag>" or "sks bag"."""
    files: dict[str, int]
    """Name within the folder -> bytes."""
    digest: str
    """sha256 over names and contents of the files; hex."""
    base: str
    """Name of the model that was adapted."""
    base_digest: str
    """sha256 over its files, or its commit on the Hub."""
    trained_on: dict[str, Any]
    """The concept's images: name, split, num_images and digest; `before`: what the adapted model
    had seen."""
    num_steps: int
    losses: tuple[float, ...]
    """Mean loss of each tenth of the training (of each step, where there are fewer than ten)."""
    seconds: float
    """Time spent in steps."""
    device: Device


def record_name(slug: str) -> str:
    """Name in a root of the record of the class with that slug."""
    return f"records/{slug}.json"


def read_adapters(root: str) -> dict[str, Adapter]:
    """Every adapter of a finished root by class name, its files checked.

    Args:
        root: absolute path or URL.

    Raises:
        SpecError: if there is no root of adapters, naming the classes that are unfinished, or
            those whose files are not what their records say; with the command that helps.
    """
    store = Store(root)
    store.check_reachable()
    if not store.exists(SPEC_NAME):
        raise SpecError(
            f"generator.adapters: root {store.url} holds no adapters (no {SPEC_NAME}); to make "
            f"some, run jobs/adapt.py --root {store.url}"
        )
    if read_root(store).identity.get("kind") != ROOT_KIND:
        raise SpecError(
            f"root {store.url}: its {SPEC_NAME} is not that of adapters; give the root of some, as "
            "jobs/adapt.py makes it"
        )
    adapters, broken = list_adapters(store)
    command = f"run jobs/adapt.py with the spec of the adapters and --root {store.url}"
    asked = Asked.model_validate_json(store.get(ASKED_NAME)) if store.exists(ASKED_NAME) else None
    missing = [name for name in asked.class_names if name not in adapters] if asked else []
    if missing or broken or not adapters:
        wrong = "".join(f"; {name} {why}" for name, why in broken.items())
        raise SpecError(f"root {store.url}: no adapters yet of {missing or 'any class'}{wrong}; "
                        f"{command}")  # fmt: skip
    for adapter in adapters.values():
        _checked_files(store, adapter)
    return adapters


def list_adapters(store: Store) -> tuple[dict[str, Adapter], dict[str, str]]:
    """The recorded adapters by class name, and broken records by name with the reason.

    A record counts if it is whole and its files are there with the recorded number of bytes; no
    file of an adapter is read.
    """
    sizes = store.sizes()
    names = sorted(n for n in sizes if n.startswith("records/") and n.endswith(".json"))
    adapters, broken = {}, {}
    for name, data in sorted(store.get_many(names).items()):
        try:
            adapter = Adapter.model_validate_json(data)
        except ValidationError as error:
            broken[name] = f"is no record: {error.errors()[0]['msg']}"
            continue
        files = {f"{adapter.folder}/{file}": size for file, size in adapter.files.items()}
        wrong = [file for file, size in files.items() if sizes.get(file) != size]
        if wrong:
            broken[name] = f"names {wrong}, which are not there or of another size"
        else:
            adapters[adapter.class_name] = adapter
    return adapters, broken


def fetch_adapter(root: str, adapter: Adapter, folder: Path) -> Path:
    """A local folder with an adapter's files, checked; those of a remote root are put in `folder`.

    Raises:
        SpecError: if they are not what the record says.
    """
    store = Store(root)
    if store.is_local:
        return Path(root, adapter.folder)
    for name, data in _checked_files(store, adapter).items():
        path = folder / adapter.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / adapter.folder


def files_digest(files: Iterable[tuple[str, bytes]]) -> str:
    """sha256 over names and contents of files, in the order of their names; hex."""
    total = hashlib.sha256()
    for name, data in sorted(files):
        total.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest()


def _checked_files(store: Store, adapter: Adapter) -> Mapping[str, bytes]:
    found = {name: store.get(f"{adapter.folder}/{name}") for name in adapter.files}
    digest = files_digest(found.items())
    if digest != adapter.digest:
        raise SpecError(
            f"root {store.url}: {adapter.folder}: its files have the digest {digest[:12]}..., the "
            f"record of {adapter.class_name!r} says {adapter.digest[:12]}...; delete the folder, "
            f"then run jobs/adapt.py with the spec of the adapters and --root {store.url}"
        )
    return found
