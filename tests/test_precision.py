import pytest
import torch

from factory.precision import autocast, pick_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("capability", "precision"), [("AVX2", "no"), ("AVX512", "bf16")])
def test_auto_is_bfloat16_only_where_the_cpu_is_made_for_it(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert pick_precision(CPU, "auto") == precision


@pytest.mark.parametrize(("asked", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_a_precision_that_is_asked_for_is_computed_in(asked, dtype):
    network = torch.nn.Linear(2, 2)
    with autocast(CPU, asked):
        assert network(torch.ones(1, 2)).dtype == dtype
