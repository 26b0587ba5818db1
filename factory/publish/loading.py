"""Lines of Python that load a published dataset, for its very name, config and format."""

import json
import shlex

from factory.shards.manifest import PublishedConfig
from factory.spec import PublishSpec


def merged_revision(spec: PublishSpec) -> str | None:
    """The branch on which readers find what is published; None: the main one.

    What a pull request proposes is to be read when it is merged.
    """
    is_proposed = spec.revision is None or spec.revision.startswith("refs/pr/")
    return None if is_proposed or spec.revision == "main" else spec.revision


def load_snippet(repo_id: str | None, config: PublishedConfig, revision: str | None) -> str:
    """Load all of a config with `datasets`.

    Args:
        repo_id: the repository; None: a folder with its files, which one stands in.
        config: of the repository.
        revision: branch of the repository; None: the main one.
    """
    shown = (
        'sample["image"], sample["label"], sample["class_name"]'
        if config.format == "parquet"
        else 'sample["png"], sample["cls"], sample["json"]["class_name"]'
    )
    return f"""from datasets import load_dataset  # pip install datasets

dataset = load_dataset({_source(repo_id, config, revision)}, split="{config.split}")
sample = dataset[0]
print({shown})"""


def stream_snippet(repo_id: str | None, config: PublishedConfig, revision: str | None) -> str:
    """Read the first images of a config with `datasets`, and no more of it than needed."""
    shown = (
        'sample["label"], sample["class_name"]'
        if config.format == "parquet"
        else 'sample["cls"], sample["json"]["class_name"]'
    )
    call = f'{_source(repo_id, config, revision)}, split="{config.split}", streaming=True'
    return f"""dataset = load_dataset({call})
for sample in dataset.take(3):
    print({shown})"""


def _source(repo_id: str | None, config: PublishedConfig, revision: str | None) -> str:
    if repo_id is not None:
        return f'"{repo_id}", "{config.name}"' + _argument(revision)
    return f'"{config.format}", data_files="{config.data_glob}"'


def _argument(revision: str | None) -> str:
    return "" if revision is None else f", revision={json.dumps(revision)}"


def tar_snippet(repo_id: str, config: PublishedConfig, revision: str | None) -> str:
    """Read the tars of a config in a public repository with `webdataset`."""
    folder = config.data_glob.rpartition("/")[0]
    return f"""import webdataset  # pip install webdataset
from huggingface_hub import HfApi, hf_hub_url

repo_id = "{repo_id}"
files = HfApi().list_repo_files(repo_id, repo_type="dataset"{_argument(revision)})
urls = [
    "pipe:curl -s -L " + hf_hub_url(repo_id, file, repo_type="dataset"{_argument(revision)})
    for file in sorted(files)
    if file.startswith("{folder}/")
]
dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
for image, label, provenance in dataset.to_tuple("png", "cls", "json"):
    print(image.size, label, provenance["class_name"])
    break"""


def verify_command(repo_id: str, revision: str | None) -> str:
    """The command that compares a repository with its manifest."""
    words = [f"hub:{repo_id}", *([] if revision is None else [f"revision={revision}"])]
    return f"python jobs/verify.py {shlex.join(words)}"
