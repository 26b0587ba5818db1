"""A root of adapters: learned, killed and gone on with, read back, and refused when damaged."""

import shutil
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from factory.adapt.pictures import stack
from factory.adapt.train import Trainer
from factory.adapters import Asked, fetch_adapter, list_adapters, read_adapters
from factory.images import decode_image
from factory.records import ASKED_NAME, SPEC_NAME
from factory.spec import SpecError
from factory.store import Store
from tests.adapt.adaptations import learn_all, tiny_adapt


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module", autouse=True)
def _fresh_accelerate():
    for state in (AcceleratorState, GradientState):
        state._reset_state()


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_base):
    """A finished root of one class, and its adapter."""
    folder = tmp_path_factory.mktemp("adapt")
    spec = tiny_adapt(tiny_base, folder, training={"checkpoint_steps": 2})
    (adapter,) = learn_all(spec, folder / "root")
    asked = Asked(class_names=("rows",))
    Store(str(folder / "root")).put(ASKED_NAME, asked.model_dump_json().encode())
    return spec, folder / "root", adapter


@pytest.fixture
def root(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made[1], tmp_path / "root")


def test_concept_that_was_killed_goes_on_from_its_checkpoint_to_the_same_bytes(
    made, tmp_path, monkeypatch
):
    spec, _, clean = made
    advance, steps = Trainer.advance, []

    def advance_until_killed(trainer):
        if len(steps) == 3:
            raise Killed
        steps.append(trainer.step)
        advance(trainer)

    monkeypatch.setattr(Trainer, "advance", advance_until_killed)
    with pytest.raises(Killed):
        learn_all(spec, tmp_path / "root")
    store = Store(str(tmp_path / "root"))
    assert not list_adapters(store)[0]
    steps = []
    (adapter,) = learn_all(spec, tmp_path / "root")
    assert steps == [2, 3]
    assert (adapter.digest, adapter.losses) == (clean.digest, clean.losses)
    assert not store.sizes("checkpoints")


def test_finished_root_is_read_with_all_that_generate_needs(made):
    _, root, adapter = made
    assert read_adapters(str(root)) == {"rows": adapter}
    assert (adapter.kind, adapter.phrase) == ("textual_inversion", "<rows>")
    assert adapter.trained_on["num_images"] == 3
    assert adapter.folder.endswith(adapter.digest[:8])
    picture = decode_image((root / "pictures" / "rows.png").read_bytes())
    sheet = decode_image(stack([(root / "pictures" / "rows.png").read_bytes()] * 2))
    assert sheet.shape == (2 * picture.shape[0], *picture.shape[1:])


def test_adapter_of_a_remote_root_is_fetched_whole(made, tmp_path):
    _, root, adapter = made
    remote = Store("memory://adapters")
    for path in root.rglob("*"):
        if path.is_file():
            remote.put(path.relative_to(root).as_posix(), path.read_bytes())
    folder = fetch_adapter(remote.url, read_adapters(remote.url)["rows"], tmp_path)
    for name in adapter.files:
        assert (folder / name).read_bytes() == (root / adapter.folder / name).read_bytes()
    assert fetch_adapter(str(root), adapter, tmp_path) == root / adapter.folder


def test_unfinished_classes_are_refused_by_name_with_the_command(root):
    (root / ASKED_NAME).write_text(Asked(class_names=("rows", "flat")).model_dump_json())
    with pytest.raises(SpecError, match=r"no adapters yet of \['flat'\].*jobs/adapt\.py.*--root"):
        read_adapters(str(root))


def test_files_that_are_not_what_the_record_says_are_refused(root, made):
    adapter = made[2]
    file = next(path for path in (root / adapter.folder).iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(SpecError, match=r"files have the digest .* the record of 'rows' says"):
        read_adapters(str(root))
    file.write_bytes(data[:-1])
    with pytest.raises(SpecError, match="not there or of another size"):
        read_adapters(str(root))


def test_root_of_something_else_is_refused(root, tmp_path):
    text = (root / SPEC_NAME).read_text().replace('"kind": "adapters"', '"kind": "other"')
    (root / SPEC_NAME).write_text(text)
    with pytest.raises(SpecError, match="is not that of adapters"):
        read_adapters(str(root))
    with pytest.raises(SpecError, match=r"generator\.adapters: .*jobs/adapt\.py --root .*absent"):
        read_adapters(str(tmp_path / "absent"))


def test_another_root_with_other_images_of_the_class_is_refused(made, root, tiny_base):
    spec = made[0]
    other = spec.model_copy(update={"concepts": spec.concepts.model_copy(update={"seed": 5})})
    with pytest.raises(SpecError, match=r"adapters of \['rows'\] that were learned from other"):
        learn_all(other, root)
    assert Path(root, made[2].folder).is_dir()
