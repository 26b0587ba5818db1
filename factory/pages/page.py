"""A report for people: one HTML page that holds its pictures, without scripts or network.

A stage's own template, report.html.jinja in its package, extends layout.html.jinja.
"""

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from factory.pages.looks import PAGE_DPI
from factory.progress import duration
from factory.spec import Frozen

_MOST_BYTES = 400_000
"""Of a sheet of images that a page holds without loss."""


class Picture(NamedTuple):
    """A picture as part of a page."""

    address: str
    """Data URI."""
    width: int
    """On the page, px."""
    height: int


def render_page(
    package: str,
    *,
    spec: Frozen,
    pictures: Mapping[str, bytes],
    filters: Mapping[str, Callable[..., object]],
    **values: Any,
) -> str:
    """The page; the same arguments give the same text.

    Args:
        package: that holds report.html.jinja, e.g. "factory.classify".
        spec: what was asked; the template shows it as `spec_yaml`.
        pictures: name -> PNG; the template shows each by the macro `picture`, which leaves out
            those that are missing.
        filters: more filters of the template, by name.
        **values: what the template names.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("factory.pages", "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "duration": duration,
        "percent": percent_in_words,
        **filters,
    }
    return environment.get_template("report.html.jinja").render(
        spec=spec,
        spec_yaml=yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        pictures={name: embed(data) for name, data in pictures.items()},
        **values,
    )


def percent_in_words(fraction: float) -> str:
    """E.g. "91.2 %"."""
    return f"{100 * fraction:.1f}\u00a0%"


def embed(data: bytes) -> Picture:
    """A PNG as part of a page.

    A chart says how many of its pixels make an inch, which is `looks.PAGE_DPI` px of the page. A
    sheet of images says nothing: its pixels are the page's. A large one becomes a JPEG.
    """
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        dpi = picture.info.get("dpi")
        kind = "png"
        if dpi is None and len(data) > _MOST_BYTES:
            kind, data = "jpeg", _jpeg(picture)
    density = 1 if dpi is None else dpi[0] / PAGE_DPI
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Picture(address, round(width / density), round(height / density))


def _jpeg(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    # Full colour resolution: some images are few pixels wide, and enlarged.
    picture.convert("RGB").save(encoded, "JPEG", quality=90, subsampling=0)
    return encoded.getvalue()
