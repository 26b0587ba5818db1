"""Pages looked at in headless Chromium, at the widths of a phone, a tablet and a desk."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

WIDTHS = (360, 768, 1440)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

_FRAMES = "".join(
    f'<iframe src="report.html" width="{width}" height="800"></iframe>' for width in WIDTHS
)
_LOOK = f"""<body>{_FRAMES}<script>
onload = () => {{
  const pages = [...document.querySelectorAll("iframe")].map((frame) => frame.contentDocument);
  for (const page of pages)
    for (const part of page.querySelectorAll("details")) part.open = true;
  const images = [...pages[0].images];
  const missing = images.filter((image) => !image.naturalWidth).length;
  const widths = pages.map((page) => page.documentElement.scrollWidth);
  document.body.textContent = `found ${{[images.length, missing, ...widths].join(" ")}} end`;
}};
</script></body>"""


@dataclass(frozen=True)
class Look:
    """What Chromium found in a page."""

    images: int
    missing: int
    """Images that are not shown."""
    widths: dict[int, int]
    """px given -> px taken."""
    complaints: list[str]
    """Lines of the console."""


def look_in_chromium(page: bytes, folder: Path) -> Look:
    """Open a page and unfold all of it; `folder` is for files."""
    assert CHROMIUM is not None
    (folder / "report.html").write_bytes(page)
    (folder / "look.html").write_text(_LOOK)
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--allow-file-access-from-files", "--enable-logging=stderr"),
            *(f"--user-data-dir={folder / 'profile'}", (folder / "look.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = done.stdout.partition("found ")[2].partition(" end")[0].split()
    images, missing, *widths = map(int, found)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Look(images, missing, dict(zip(WIDTHS, widths, strict=True)), complaints)
