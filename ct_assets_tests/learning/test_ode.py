"""Integration of velocity fields: values and orders of convergence against solutions in closed form."""

import math

import pytest
import torch

from ct_assets.learning import ode


def growth(x, t):
    """dx/dt = (1 + cos(3 t)) x, solved by x0 exp(t + sin(3 t) / 3)."""
    return (1 + torch.cos(3 * t))[:, None] * x


EXACT = math.exp(1 + math.sin(3.0) / 3)


@pytest.mark.parametrize("method", ["euler", "heun", "rk4"])
class TestEachMethod:
    def test_converges_with_its_order(self, method):
        x0 = torch.ones(1, 1, dtype=torch.float64)
        errors = [abs(ode.integrate(growth, x0, steps, method).item() - EXACT) for steps in (20, 40)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(ode.ORDER[method], abs=0.2)

    def test_is_exact_on_a_constant_field_in_one_step(self, method):
        x0 = torch.randn(4, 2, 3)
        velocity = torch.randn(4, 2, 3)
        torch.testing.assert_close(ode.integrate(lambda *_: velocity, x0, 1, method), x0 + velocity)

    def test_costs_as_many_evaluations_as_its_order(self, method):
        times = []

        def field(x, t):
            assert t.shape == (3,)
            times.append(t[0].item())
            return x

        ode.integrate(field, torch.zeros(3, 1), 5, method)
        assert len(times) == 5 * ode.ORDER[method]
        assert 0 <= min(times) <= max(times) <= 1

    def test_leaves_its_start_unchanged(self, method):
        x0 = torch.ones(2, 1)
        ode.integrate(growth, x0, 3, method)
        assert torch.equal(x0, torch.ones(2, 1))


@pytest.mark.parametrize(("steps", "method"), [(0, "euler"), (4, "midpoint")])
def test_what_cannot_be_integrated_is_refused(steps, method):
    with pytest.raises(ValueError, match="must be"):
        ode.integrate(growth, torch.ones(1, 1), steps, method)
