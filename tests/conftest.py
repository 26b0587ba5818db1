"""Fixtures of the suite: no network, a tiny model, and one small Ray."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="factory-hf-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN_PATH"] = str(Path(os.environ["HF_HOME"], "ray-token"))
Path(os.environ["RAY_AUTH_TOKEN_PATH"]).write_text("0" * 64)

# Hub and Ray read the settings above when they are imported.
import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The machine may be busy; the suite's own timeout bounds a test.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


CLASS_NAMES = ("cat", "dog", "T-shirt/top")


def save_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    label_dropout: float = 0.1,
    class_names: tuple[str, ...] = CLASS_NAMES,
) -> Path:
    """A random EDM model of 8x8 RGB images and three classes, in diffusers' folder format.

    Without class names it is unconditional.
    """
    from factory.diffusion.edm import new_pipeline
    from factory.seeds import seeded
    from factory.spec import DenoiserShape

    shape = DenoiserShape(block_out_channels=(16, 32), layers_per_block=1, patch_size=1)
    with seeded(seed):
        pipeline = new_pipeline(
            shape,
            name="tiny",
            class_names=class_names,
            image_size=8,
            channels=3,
            label_dropout=label_dropout,
            trained_on=None,
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def one_thread():
    """Networks this small only wait for one another on two threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory):
    """One private Ray for all tests that need one, with two logical CPUs."""
    import ray

    # Unix sockets in the folder limit its path to about 60 characters.
    folder = tempfile.mkdtemp(prefix="ray-")
    ray.init(
        address="local",
        # As `connect` names one: it will never grow.
        namespace="factory-private",
        num_cpus=2,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        object_store_memory=2**28,
        _temp_dir=folder,
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_bucket():
    """URL of an empty bucket on a real S3 protocol server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="factory")
        yield "s3://factory"
    server.stop()
