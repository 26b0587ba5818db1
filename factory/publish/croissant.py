"""The dataset in the words of Croissant 1.0, for tools that know neither the Hub nor this project.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from factory.publish.loading import merged_revision
from factory.shards.manifest import Manifest, PublishedConfig, PublishedFile
from factory.spec import PublishSpec

CROISSANT_NAME = "croissant.json"
_TYPES = {"bool": "sc:Boolean", "string": "sc:Text"}
_ENCODINGS = {"parquet": "application/x-parquet", "webdataset": "application/x-tar"}
_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject"),
    *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField"),
    *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
    *("separator", "source", "subField", "transform"),
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}


def make_croissant(manifest: Manifest, spec: PublishSpec) -> str:
    """JSON-LD of a repository: every shard with its sha256, and a record set a config.

    Its record sets are read beside the shards, in a copy of the repository. Those of WebDataset
    have images and keys; the label of KEY.png is in KEY.cls.
    """
    url = None
    if spec.repo_id is not None:
        url = f"{constants.ENDPOINT}/datasets/{spec.repo_id}"
    revision = quote(merged_revision(spec) or "main", safe="")
    where = "" if url is None else f"{url}/resolve/{revision}/"
    known = {
        "url": url,
        "license": spec.licence,
        "creator": spec.repo_id
        and {"@type": "sc:Organization", "name": spec.repo_id.partition("/")[0]},
    }
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": spec.title or manifest.name,
        "description": _description(manifest, spec),
        **{name: value for name, value in known.items() if value is not None},
        "distribution": [
            entry
            for config in manifest.configs
            for entry in (
                *(_file_object(file, config, where) for file in config.files),
                _file_set(config),
            )
        ],
        "recordSet": [_record_set(config) for config in manifest.configs],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _description(manifest: Manifest, spec: PublishSpec) -> str:
    parts = [
        f"{config.name}: {config.num_images:,} labelled images of {len(config.class_names)} "
        f"classes, {config.num_synthetic:,} of them synthetic."
        for config in manifest.configs
    ]
    return " ".join([*filter(None, [spec.description.strip()]), *parts])


def _file_object(file: PublishedFile, config: PublishedConfig, where: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": f"{where}{file.path}",
        "contentSize": f"{file.num_bytes} B",
        "encodingFormat": _ENCODINGS[config.format],
        "sha256": file.sha256,
    }


def _file_set(config: PublishedConfig) -> dict[str, Any]:
    is_tar = config.format == "webdataset"
    contained = {"containedIn": [{"@id": file.path} for file in config.files]} if is_tar else {}
    return {
        "@type": "cr:FileSet",
        "@id": f"{config.name}-files",
        "name": f"{config.name}-files",
        **contained,
        "encodingFormat": "image/png" if is_tar else _ENCODINGS[config.format],
        "includes": "*.png" if is_tar else config.data_glob,
    }


def _record_set(config: PublishedConfig) -> dict[str, Any]:
    fields = _tar_fields() if config.format == "webdataset" else _columns(config)
    return {
        "@type": "cr:RecordSet",
        "@id": config.name,
        "name": config.name,
        "description": f"A record an image; split {config.split}.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{config.name}/{name}",
                "name": name,
                "dataType": data_type,
                "source": {"fileSet": {"@id": f"{config.name}-files"}, **source},
            }
            for name, data_type, source in fields
        ],
    }


def _columns(config: PublishedConfig) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, feature in config.features.items():
        source: dict[str, Any] = {"extract": {"column": name}}
        match feature:
            case {"_type": "Image"}:
                yield name, "sc:ImageObject", {**source, "transform": {"jsonPath": "bytes"}}
            case {"_type": "ClassLabel"}:
                yield name, "sc:Integer", source
            case {"dtype": str(dtype)}:
                number = "sc:Float" if dtype.startswith("float") else "sc:Integer"
                yield name, _TYPES.get(dtype, number), source


def _tar_fields() -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "image", "sc:ImageObject", {"extract": {"fileProperty": "content"}}
    key = {"extract": {"fileProperty": "filename"}, "transform": {"regex": r"^(.+)\.png$"}}
    yield "key", "sc:Text", key
