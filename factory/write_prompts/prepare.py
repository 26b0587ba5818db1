"""Everything before the language model is loaded: which one it is, and whether a file is there."""

import re
from dataclasses import dataclass
from pathlib import Path

from factory.models import PinnedFolder, pin_folder
from factory.spec import Frozen, SpecError, WritePromptsSpec, fingerprint

_FINGERPRINT = re.compile(r"^# fingerprint: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to write, with which model, and where."""

    spec: WritePromptsSpec
    model: PinnedFolder
    path: Path
    is_written: bool
    """Whether the file is there, from these settings; people may have reviewed it since."""

    @property
    def model_name(self) -> str:
        """What the file calls the model: its Hub id, or its folder's name."""
        model = self.model
        return model.path if model.revision is not None else Path(model.path).name

    @property
    def fingerprint(self) -> str:
        """12 hex digits that name all that the prompts depend on."""
        return _fingerprint(self.spec, self.model)


class WritePromptsDryRun(Frozen):
    """What --dry-run prints."""

    file: str
    fingerprint: str
    model: str
    model_digest: str
    """sha256 over its files, or its commit on the Hub."""
    num_prompts: int
    most_answers: int
    """Answers after which every class would be given up."""
    is_written: bool
    """Whether the file is there already, and would be left as it is."""


def prepare(spec: WritePromptsSpec) -> Prepared:
    """Pin the model and look for the file; writes nothing.

    Raises:
        SpecError: if the model cannot be had, the file's folder is missing, or another file is
            there.
    """
    path = Path(spec.output).expanduser().resolve()
    if not path.parent.is_dir():
        raise SpecError(f"output: {path.parent} is no folder; make it, or give another output")
    model = pin_folder(
        spec.model, spec.revision, field="model", instead="a folder in transformers' format"
    )
    if not path.exists():
        return Prepared(spec, model, path, is_written=False)
    found = _FINGERPRINT.search(path.read_text(encoding="utf-8", errors="replace"))
    wanted = _fingerprint(spec, model)
    if found is None or found[1] != wanted:
        raise SpecError(
            f"output: {path} is there, from {'another spec' if found else 'other hands'} "
            f"(fingerprint {found[1] if found else 'none'}, of this spec {wanted}); "
            "give another output, or move it away"
        )
    return Prepared(spec, model, path, is_written=True)


def dry_run(prepared: Prepared) -> WritePromptsDryRun:
    """What would be written."""
    spec = prepared.spec
    num_prompts = len(spec.class_names) * spec.prompts_per_class
    return WritePromptsDryRun(
        file=str(prepared.path),
        fingerprint=prepared.fingerprint,
        model=prepared.model_name,
        model_digest=prepared.model.digest,
        num_prompts=num_prompts,
        most_answers=num_prompts * spec.max_answers_per_prompt,
        is_written=prepared.is_written,
    )


def _fingerprint(spec: WritePromptsSpec, model: PinnedFolder) -> str:
    asked = spec.model_dump(mode="json", exclude={"model", "revision", "output"})
    return fingerprint(asked | {"model": model.digest})
