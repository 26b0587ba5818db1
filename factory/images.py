"""The bridge between uint8 pixels, float tensors and encoded bytes that say what they are.

PNG is Pillow's, about 12,000 images/s a core at 28 px grey, 7,000 at 32 px and 2,000 at 64 px RGB
(benchmarks/encode.py); faster encoders know only RGB, or bring 45 MB of other codecs. Pillow's
wheels carry their own deflate, so its version fixes the bytes, on any CPU.
N images, C channels (1 grey, 3 RGB), H height, W width.
"""

import hashlib
import io
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    import torch

TRAINED_ALGORITHMIC_MEDIA = "trainedAlgorithmicMedia"
"""IPTC digital source type of an image drawn by a model trained on samples."""
COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA = "compositeWithTrainedAlgorithmicMedia"
"""IPTC digital source type of a real image that a model has drawn parts of."""
MARKS = (TRAINED_ALGORITHMIC_MEDIA, COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA)

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# As short as it can be, and uncompressed in the file, as XMP's specification (part 3) asks of PNG.
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' Iptc4xmpExt:DigitalSourceType="{_SOURCE_TYPES}{{mark}}"/>'
    "</rdf:RDF></x:xmpmeta>"
)
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise for bytes that are no image or a damaged one."""


def to_float(images: NDArray[np.uint8]) -> "torch.Tensor":
    """uint8 [N, H, W, C] -> float32 [N, C, H, W] in [-1, 1]; 0 becomes -1 and 255 becomes 1."""
    import torch

    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {_describe(images)}; give uint8 [N, H, W, C]")
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return tensor.float() / 127.5 - 1


def tensor_to_float(images: "torch.Tensor") -> "torch.Tensor":
    """`to_float` of a uint8 tensor [N, H, W, C] on any device; the result is channels-last."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(x: "torch.Tensor") -> NDArray[np.uint8]:
    """Float [N, C, H, W], clamped to [-1, 1] -> uint8 [N, H, W, C], rounded half to even.

    The inverse of `to_float`.

    Raises:
        ValueError: naming the images that hold NaN or infinity.
    """
    import torch

    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x is {x.dtype} {list(x.shape)}; give floats [N, C, H, W]")
    finite = x.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        broken = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"images {broken} of {len(x)} hold NaN or infinity; look at the model")
    levels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Pixels of an image in any format that Pillow reads, turned upright as its Exif says.

    Returns:
        uint8 [H, W, 1] for grey images, else [H, W, 3]; palettes are resolved, alpha is dropped.

    Raises:
        ValueError: if the bytes are broken or hold more than 8 bits a channel.
    """
    return decode_with_mark(data)[0]


def decode_with_mark(data: bytes) -> tuple[NDArray[np.uint8], str | None]:
    """What `decode_image` and `read_mark` return, for the work of one.

    Raises:
        ValueError: as `decode_image`.
    """
    image = _open(data)
    return _pixels(image), _mark(image)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        # Pillow would clip these to 255 without a word.
        raise ValueError(f"image has mode {image.mode}; convert it to 8 bits a channel first")
    grey = image.mode in ("1", "L", "LA", "La")
    pixels = np.array(image.convert("L" if grey else "RGB"))
    return pixels[:, :, None] if grey else pixels


def encode_png(image: NDArray[np.uint8], *, mark: str | None, compress_level: int) -> bytes:
    """Lossless PNG; the same pixels, mark and level give the same bytes.

    Args:
        image: uint8 [H, W, 1] or [H, W, 3].
        mark: one of `MARKS`, written as XMP `Iptc4xmpExt:DigitalSourceType`; None: no metadata.
        compress_level: zlib level, 0 to 9.
    """
    if mark is not None and mark not in MARKS:
        raise ValueError(f"mark is {mark!r}; give one of {', '.join(MARKS)}, or None")
    text = PngInfo()
    if mark is not None:
        text.add_itxt("XML:com.adobe.xmp", _XMP.format(mark=mark))
    return _png(_picture(image), compress_level, text)


def mark_of(*, is_reconstructed: bool, t_re: int | None = None) -> str | None:
    """The mark of a generated image.

    Args:
        is_reconstructed: whether it was drawn from a real image.
        t_re: noise level that it was drawn from then; at 0 it is the real image, without a mark.
    """
    if not is_reconstructed:
        return TRAINED_ALGORITHMIC_MEDIA
    return None if t_re == 0 else COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA


def read_mark(data: bytes) -> str | None:
    """Name of the IPTC digital source type in an encoded image's XMP; None if it has none.

    Raises:
        ValueError: if the bytes are broken.
    """
    return _mark(_open(data))


def _mark(image: Image.Image) -> str | None:
    xmp = image.info.get("xmp", b"")
    packet = xmp if isinstance(xmp, bytes) else xmp.encode()
    # XMP may write a property as attribute or element; its value has one spelling in both.
    found = re.search(re.escape(_SOURCE_TYPES).encode() + rb"(\w+)", packet)
    return None if found is None else found[1].decode()


def pixel_digest(image: NDArray[np.uint8]) -> str:
    """Sha256 over shape and pixels of a uint8 [H, W, C] image, whatever its encoding."""
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"image is {_describe(image)}; give uint8 [H, W, C]")
    shape = ",".join(str(size) for size in image.shape)
    return hashlib.sha256(shape.encode() + b":" + image.tobytes()).hexdigest()


def resize(image: NDArray[np.uint8], size: int, *, resample: str) -> NDArray[np.uint8]:
    """Resize the shorter side to `size` px, then cut the centre square.

    Args:
        image: uint8 [H, W, C].
        size: side of the result, px.
        resample: Pillow's name of the filter, e.g. "lanczos".

    Returns:
        uint8 [size, size, C].
    """
    picture = _picture(image)
    shorter = min(picture.size)
    # Pillow copies a picture that has its size already.
    width, height = (round(side * size / shorter) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling[resample.upper()])
    left, top = (width - size) // 2, (height - size) // 2
    resized = np.asarray(picture.crop((left, top, left + size, top + size)))
    return resized[:, :, None] if resized.ndim == 2 else resized


def contact_sheet(
    images: NDArray[np.uint8],
    *,
    columns: int,
    scale: int = 2,
    row_names: Sequence[str] | None = None,
) -> bytes:
    """All images in one PNG picture, row by row.

    Args:
        images: uint8 [N, H, W, C].
        columns: images in a row.
        scale: side in the picture of one pixel of an image.
        row_names: one name a row, written at its left.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images are {_describe(images)}; give uint8 [N, H, W, C] with N > 0")
    rows = -(-len(images) // columns)
    if row_names is not None and len(row_names) != rows:
        raise ValueError(f"row_names holds {len(row_names)} names for {rows} rows; give one each")
    gap, font = 2 * scale, ImageFont.load_default(size=14)
    margin = gap
    if row_names is not None:
        margin += int(max(font.getlength(name) for name in row_names)) + 2 * gap
    height, width = (side * scale for side in images.shape[1:3])
    down, right = height + gap, width + gap
    sheet = Image.new("RGB", (margin + columns * right, gap + rows * down), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(row_names or ()):
        middle = gap + row * down + height // 2
        draw.text((margin - 2 * gap, middle), name, fill="black", font=font, anchor="rm")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        large = image.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet.paste(_picture(large), (margin + column * right, gap + row * down))
    return _png(sheet, 6, PngInfo())


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        # Loads too: half of what can be broken shows only then.
        ImageOps.exif_transpose(image, in_place=True)
    except _BROKEN as error:
        raise ValueError(f"image of {len(data)} bytes cannot be decoded: {error}") from None
    return image


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"image is {_describe(image)}; give uint8 [H, W, 1] or [H, W, 3]")
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _png(picture: Image.Image, compress_level: int, text: PngInfo) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=compress_level, pnginfo=text)
    return encoded.getvalue()


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
