"""What a dataset looks like: a few images of each class in one picture."""

import numpy as np
from numpy.typing import NDArray

from factory.images import contact_sheet, decode_image
from factory.records import ShardRecord
from factory.shards.reader import read_shard
from factory.store import Store

SHEET_NAME = "contact-sheet.png"
_COLUMNS = 10
_MAX_ROWS = 20


def save_contact_sheet(store: Store, records: dict[int, ShardRecord], *, anew: bool) -> str | None:
    """Put a sheet into the root: a row a class (at most 20) that has images, its first ten.

    Args:
        store: the root.
        records: its records.
        anew: whether to replace a sheet that is there.

    Returns:
        Where it lies; None if the root holds no image.
    """
    if not records:
        return None
    if anew or not store.exists(SHEET_NAME):
        store.put(SHEET_NAME, class_sheet(_first_images(store, records)))
    return f"{store.url}/{SHEET_NAME}"


def class_sheet(rows: dict[str, list[NDArray[np.uint8]]]) -> bytes:
    """A PNG picture with a row for each class name, short rows filled up with white.

    Args:
        rows: class name -> at most ten images, uint8 [H, W, C], all of one size.
    """
    blank = np.full_like(next(image for row in rows.values() for image in row), 255)
    filled = [row + [blank] * (_COLUMNS - len(row)) for row in rows.values()]
    images = np.stack([image for row in filled for image in row])
    return contact_sheet(images, columns=_COLUMNS, scale=2, row_names=list(rows))


def _first_images(
    store: Store, records: dict[int, ShardRecord]
) -> dict[str, list[NDArray[np.uint8]]]:
    names = list(dict.fromkeys(n for r in records.values() for n in r.class_counts))[:_MAX_ROWS]
    rows: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in names}
    labels: dict[str, int] = {}
    for record in records.values():
        short = {name for name, row in rows.items() if len(row) < _COLUMNS}
        if not short:
            break
        if short.isdisjoint(record.class_counts):
            continue
        for sample in read_shard(store.get(record.file), record.format):
            row = rows.get(sample.class_name, [])
            if sample.class_name in rows and len(row) < _COLUMNS:
                row.append(decode_image(sample.image))
                labels[sample.class_name] = sample.label
    # Records name the classes of pseudo-labels in the order in which they were found.
    return dict(sorted(rows.items(), key=lambda item: labels[item[0]]))
