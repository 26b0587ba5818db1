"""A cluster on this machine that grows and shrinks: Ray's own autoscaler over its fake provider.

What the provider starts are real nodes, whose GPUs are only numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from ray.autoscaler._private import fake_multi_node
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
)

from tests.cluster.heads import Head, running_head

MAX_NODES = 2
IDLE_SECONDS = 6
_UNUSED_LISTS = (
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "initialization_commands",
    "rsync_exclude",
    "rsync_filter",
    "cluster_synced_files",
)


def fake_config(address: str) -> dict:
    """A head without a CPU for work, and 0 to 2 workers with a GPU each."""
    return {
        "cluster_name": "fake",
        "max_workers": MAX_NODES,
        "idle_timeout_minutes": IDLE_SECONDS / 60,
        "upscaling_speed": 100,
        "docker": {},
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 80_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": MAX_NODES,
            },
        },
        **{name: [] for name in _UNUSED_LISTS},
    }


@contextmanager
def growing_head(home: Path) -> Iterator[Head]:
    """A head whose cluster grows from no worker to as many as `MAX_NODES`, and shrinks again."""

    def autoscaling(address: str) -> tuple[list[str], dict[str, str]]:
        config = home / "autoscaling.yaml"
        config.write_text(yaml.safe_dump(fake_config(address)))
        environment = {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
        return [f"--autoscaling-config={config}"], environment

    with (
        _provider_defaults(),
        running_head(home, num_cpus=0, jobs=False, autoscaling=autoscaling) as head,
    ):
        yield head


@contextmanager
def _provider_defaults() -> Iterator[None]:
    # Ray's wheel lacks the file, and its autoscaler ends where it does not find it.
    file = Path(fake_multi_node.__path__[0]) / "example.yaml"
    if file.exists():
        yield
        return
    file.write_text(yaml.safe_dump(fake_config("")))
    try:
        yield
    finally:
        file.unlink()
