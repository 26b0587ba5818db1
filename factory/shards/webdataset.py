"""WebDataset shards: a plain tar with `KEY.cls`, `KEY.json` and `KEY.png` for every sample."""

import io
import json
import tarfile
from collections.abc import Sequence

from factory.shards.sample import Sample, check_samples

MEMBERS = ("cls", "json", "png")
"""What each sample has in the tar, in order: label as decimal text; class name and provenance as
one JSON object; image."""


def write_webdataset(samples: Sequence[Sample], class_names: Sequence[str]) -> bytes:
    """One ustar archive of the samples, in their order; the same samples give the same bytes.

    Raises:
        ValueError: if the samples do not make a shard (see `check_samples`).
    """
    check_samples(samples, class_names)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            facts = {"class_name": sample.class_name, **sample.provenance}
            contents = (
                str(sample.label).encode(),
                json.dumps(facts, sort_keys=True, separators=(",", ":")).encode(),
                sample.image,
            )
            for suffix, content in zip(MEMBERS, contents, strict=True):
                # A new TarInfo has time 0, owner 0 and mode 0644.
                member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
