"""What to check of a finished dataset."""

from pydantic import Field, model_validator

from factory.spec.read import Fraction, Frozen
from factory.spec.resources import Resources


class VerifySpec(Frozen):
    """What to check of a finished dataset."""

    replay: Fraction = 0.0
    """Share of the images to make again and compare."""
    only: str | None = None
    """Key of one image to make again as a file; nothing else is checked."""
    output: str = "."
    """Folder for the file that `only` makes."""
    model: str | None = None
    """Where the dataset's model lies now, for `replay` and `only`; None: where it lay then."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _one_task(self) -> "VerifySpec":
        if self.only is not None and self.replay:
            raise ValueError(
                f"only is {self.only} and replay {self.replay}, but `only` checks nothing else; "
                "give one of the two"
            )
        return self


class VerifyHubSpec(Frozen):
    """What to check of a dataset that is published on the Hub."""

    revision: str | None = None
    """Commit, tag or branch; None: the main one."""
    merkle_root: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """What it must be, as a paper or one's own copy says; None: as the dataset's manifest says."""
    download: bool = False
    """Fetch every file, hash what came and count its images, instead of believing the Hub."""
