import pytest
import torch

from tests.tiny_text_to_image import save_tiny_pipeline


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small only wait for one another on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A text-to-image model of 16 px."""
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny_text")
