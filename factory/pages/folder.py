"""A folder of results: what was asked, the report as JSON, and its page with the pictures."""

from collections.abc import Mapping

from pydantic import BaseModel

from factory.store import Store

REPORT_NAME = "report.json"
HTML_NAME = "report.html"


def save_report(store: Store, report: BaseModel, html: str, pictures: Mapping[str, bytes]) -> None:
    """Put pictures/*.png, report.html and report.json into the folder, in this order.

    Args:
        store: the folder.
        report: what was measured.
        html: its page.
        pictures: name -> PNG.
    """
    for name, data in pictures.items():
        store.put(f"pictures/{name}.png", data)
    store.put(HTML_NAME, html.encode())
    store.put(REPORT_NAME, report.model_dump_json(indent=1).encode())
