"""A dataset to publish on the Hugging Face Hub, and what must be true of it before."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory.spec.mix import Mix
from factory.spec.read import Frozen, SpecError
from factory.spec.source import SourceSpec

ConfigName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
Gate = Literal[
    "verification",
    "counts",
    "memorisation_missing",
    "memorisation_not_valid",
    "copies",
    "marks",
    "another_dataset",
]


def check_pull_request(revision: str | None, tag: str | None, *, create_pr: bool) -> None:
    """Refuse a new pull request together with a branch or a tag.

    Raises:
        SpecError: saying why they exclude each other.
    """
    if create_pr and revision is not None:
        raise SpecError(
            f"create_pr and revision {revision} exclude each other: a new pull request goes onto "
            "main, and one that is open is revision refs/pr/<number>; leave one of the two out"
        )
    if create_pr and tag is not None:
        raise SpecError(
            f"create_pr and tag {tag} exclude each other: tag main when the pull request is "
            "merged; leave one of the two out"
        )


class RealConfig(Frozen):
    """Real images, published beside the synthetic ones."""

    kind: Literal["real"]
    source: SourceSpec
    licence: str
    """Of these images, as an identifier of the Hub, e.g. `mit`."""


class MixConfig(Frozen):
    """Real and synthetic images mixed as jobs/classify.py mixes them."""

    kind: Literal["mix"]
    real: ConfigName
    """A config of kind real."""
    mix: Mix
    seed: int = Field(default=0, ge=0)


class PublishSpec(Frozen):
    """A root, and what goes with it into a dataset repository."""

    name: str = Field(default="publish", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    root: str = "out"
    """The dataset, as jobs/generate.py made it: a folder or URL."""
    config: ConfigName = "synthetic"
    """What it is called in the repository."""
    more: dict[ConfigName, Annotated[RealConfig | MixConfig, Field(discriminator="kind")]] = Field(
        default={}
    )
    """Further configs of the same repository."""
    repo_id: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """`org/name`; None: write card and layout locally, and push nothing."""
    private: bool = True
    revision: str | None = None
    """Branch to push to; None: the main one."""
    create_pr: bool = False
    tag: str | None = None
    licence: str | None = None
    """Of the synthetic images, as an identifier of the Hub, e.g. `cc-by-4.0`; never guessed."""
    licence_name: str | None = None
    """What `licence: other` is called, which needs it."""
    licence_link: str | None = None
    """Where the text of `licence: other` can be read, which needs it."""
    model_licence: str | None = None
    """Of the generator, as an identifier of the Hub; None: as its own folder says."""
    source_licence: str | None = None
    """Of the real images that the generator was trained on, as an identifier of the Hub."""
    title: str | None = None
    """None: the dataset's name, or if it has none but the default, one after its generator."""
    description: str = ""
    """What a reader should know that no record says."""
    limits: str = ""
    """Known limits and biases, beyond those that are measured."""
    evaluate: str | None = "results/evaluate"
    """Results of jobs/evaluate.py on this root, without which nobody knows of copies."""
    classify: str | None = None
    """Results of jobs/classify.py on this root."""
    accept: tuple[Gate, ...] = ()
    """What is published in spite of: a verification that fails (damaged shards are left out),
    counts that fall short, no check for memorisation, one that does not hold for this generator,
    copies found, missing marks, another dataset in the repository (which is replaced)."""
    export: str | None = None
    """Folder for the root's images as files, one subfolder a class; None: none."""

    @model_validator(mode="after")
    def _configs_exist(self) -> "PublishSpec":
        if self.config in self.more:
            raise ValueError(f"more names {self.config!r}, as the root's config is; rename one")
        real = [name for name, config in self.more.items() if config.kind == "real"]
        wrong = {
            name: config.real
            for name, config in self.more.items()
            if config.kind == "mix" and config.real not in real
        }
        if wrong:
            raise ValueError(f"mixes name real configs {wrong}; configs of kind real are {real}")
        return self

    @model_validator(mode="after")
    def _pull_request_goes_onto_main(self) -> "PublishSpec":
        check_pull_request(self.revision, self.tag, create_pr=self.create_pr)
        return self

    @model_validator(mode="after")
    def _other_licence_is_named(self) -> "PublishSpec":
        named = {"licence_name": self.licence_name, "licence_link": self.licence_link}
        is_other = self.licence == "other"
        wrong = [name for name, value in named.items() if (value is not None) != is_other]
        if wrong and is_other:
            raise ValueError(f"licence is other, which lacks {' and '.join(wrong)}; give them")
        if wrong:
            raise ValueError(
                f"{' and '.join(wrong)} go with licence other, and it is {self.licence}; leave "
                "them out"
            )
        return self
