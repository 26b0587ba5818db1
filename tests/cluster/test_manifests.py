"""cluster.yaml under Ray's own check, and the KubeRay manifest as far as it can be read offline."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
import ray
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

PROJECT = Path(__file__).parents[2]
FILLED_IN = {
    "ami-FILL-IN": "ami-0123456789abcdef0",
    "HEAD-FILL-IN": "factory-head",
    "WORKER-FILL-IN": "factory-worker",
}
COMMAND = "jobs/generate.py num_images=100000 resources.num_gpus=1 --root s3://"


def filled_in():
    text = (PROJECT / "cluster.yaml").read_text()
    marked = [line for line in text.splitlines() if "# FILL IN" in line]
    assert len(marked) == len(FILLED_IN)
    for placeholder, value in FILLED_IN.items():
        assert sum(placeholder in line for line in marked) == 1
        text = text.replace(placeholder, value)
    return yaml.safe_load(text)


def pinned_ray():
    return re.search(r"^ray==(.+)$", (PROJECT / ".constraints.txt").read_text(), re.MULTILINE)[1]


@pytest.fixture(scope="module")
def config():
    return filled_in()


def test_cluster_yaml_passes_the_check_that_ray_up_makes(config):
    validate_config(prepare_config(deepcopy(config)))


def unknown_key(config):
    config["idle_timeout"] = 5


def unknown_key_of_a_type(config):
    config["available_node_types"]["spot_gpu"]["min_wrokers"] = 0


def wrong_type(config):
    config["available_node_types"]["spot_gpu"]["resources"]["GPU"] = "one"


def missing_head_node_type(config):
    del config["head_node_type"]


def min_above_max(config):
    config["available_node_types"]["spot_gpu"]["min_workers"] = config["max_workers"] + 1


@pytest.mark.parametrize(
    "mistake",
    [unknown_key, unknown_key_of_a_type, wrong_type, missing_head_node_type, min_above_max],
)
def test_a_mistake_in_cluster_yaml_is_caught(config, mistake):
    wrong = deepcopy(config)
    mistake(wrong)
    with pytest.raises((ValidationError, ValueError)):
        validate_config(prepare_config(wrong))


def test_nothing_costs_while_nothing_is_made(config):
    types = config["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != config["head_node_type"]}
    assert {kind["min_workers"] for kind in workers.values()} == {0}
    assert sum(kind["max_workers"] for kind in workers.values()) == config["max_workers"]
    head = types[config["head_node_type"]]
    assert (head["resources"], head["max_workers"]) == ({"CPU": 0}, 0)


def test_spot_machines_are_asked_for_first_and_are_of_the_same_kind(config):
    types = deepcopy(config["available_node_types"])
    spot, other = types["spot_gpu"], types["on_demand_gpu"]
    assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot["node_config"] == other["node_config"]
    assert spot["resources"] == other["resources"]
    assert spot["priority"] > other["priority"]


def test_every_ray_of_the_cluster_asks_for_the_token_and_no_dashboard_is_open(config):
    starts = [
        command
        for name in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[name]
        if "ray start" in command
    ]
    assert len(starts) == 2
    token = "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token"
    assert all(f"export {token} &&" in command for command in starts)
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert re.findall(r"--dashboard-host=(\S+)", str(starts)) == ["127.0.0.1"]


def test_what_the_setup_installs_is_mounted(config):
    mounts = {name: path for name, path in config["file_mounts"].items() if "project" in name}
    assert all(name == f"~/factory-project/{path}" for name, path in mounts.items())
    assert all((PROJECT / path).exists() for path in mounts.values())
    built_from = {"factory", "pyproject.toml", "README.md", "LICENSE", ".constraints.txt"}
    assert set(mounts.values()) == built_from


@pytest.fixture(scope="module")
def rayjob():
    return yaml.safe_load((PROJECT / "docs" / "kuberay-rayjob.yaml").read_text())


def groups(rayjob):
    cluster = rayjob["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers(rayjob):
    return [
        container
        for group in groups(rayjob)
        for container in group["template"]["spec"]["containers"]
    ]


def test_all_run_the_version_of_ray_that_is_pinned(rayjob):
    assert ray.__version__ == pinned_ray()
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == pinned_ray()
    tags = {container["image"].rpartition(":")[2] for container in containers(rayjob)}
    assert tags == {f"ray-{pinned_ray()}"}


def test_both_manifests_show_the_same_job(rayjob):
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert COMMAND in rayjob["spec"]["entrypoint"]
    assert COMMAND in (PROJECT / "cluster.yaml").read_text()


def test_the_kuberay_cluster_grows_from_nothing_and_its_head_does_no_work(rayjob):
    cluster = rayjob["spec"]["rayClusterSpec"]
    head, workers = groups(rayjob)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert (workers["replicas"], workers["minReplicas"]) == (0, 0)
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True


def test_pods_request_what_they_are_limited_to(rayjob):
    for container in containers(rayjob):
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert containers(rayjob)[1]["resources"]["limits"]["nvidia.com/gpu"] == "1"
