import pytest

from tests.tiny_text_to_image import save_tiny_pipeline


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Every test here computes with one thread."""


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A text-to-image model of 16 px."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny_text")
