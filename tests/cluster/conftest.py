"""A head that several tests share: starting one takes longer than most jobs on it."""

import pytest

from tests.cluster.heads import running_head


@pytest.fixture(scope="package")
def head(tmp_path_factory):
    """A head with two CPUs, whose user's home is a folder of its own."""
    with running_head(tmp_path_factory.mktemp("home"), num_cpus=2, jobs=True) as running:
        yield running
