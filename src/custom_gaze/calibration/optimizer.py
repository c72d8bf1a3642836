"""Adam whose steps are bounded by the loss that they are taken for."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from custom_gaze.calibration import policy


class BoundedAdam:
    """Adam (Kingma & Ba 2015), its step shortened where it promises more than the loss can give.

    To first order a step changes the loss by the sum of gradient · change over all numbers. A mean
    square cannot sink below zero: where the sum of |gradient · change| is larger than the loss a
    few times over, the step goes further than the gradient tells anything about. Adam's steps are
    as large as the rate whatever the gradient, and where a head's weights are large, because the
    features hardly differ between frames, such steps in the trunk throw the predictions about by
    hundreds of degrees. The bound is that of Polyak's step size (Polyak 1987; with momentum and
    Adam: Schaipp et al. 2024, "MoMo"); the absolute values are there because momentum that points
    away from the gradient moves as far.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._adam = torch.optim.Adam(self._parameters, fused=True)
        # Kept from step to step: taking so much memory anew costs more than writing it.
        self._moved = [torch.empty_like(parameter) for parameter in self._parameters]

    def step(self, loss: Tensor, rate: float) -> None:
        """Change the parameters in place by at most one step of Adam at `rate`.

        `loss` is a scalar with its graph, never negative. A loss that is no number makes the
        parameters none. The gradients are used up.
        """
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for moved, parameter in zip(self._moved, self._parameters, strict=True):
                moved.copy_(parameter)
            self._adam.step()
            promised = torch.zeros((), device=loss.device)
            for moved, parameter in zip(self._moved, self._parameters, strict=True):
                moved.sub_(parameter)  # the step, backwards
                if parameter.grad is not None:
                    promised += torch.linalg.vector_norm(parameter.grad.mul_(moved), 1)
            smallest = torch.finfo(promised.dtype).tiny
            share = (policy.MOST_PROMISED * loss.detach() / promised.clamp_min(smallest)).clamp_max(
                1.0
            )
            if loss.device.type == "cpu" and share == 1:  # a GPU is not waited for
                return
            for moved, parameter in zip(self._moved, self._parameters, strict=True):
                parameter.addcmul_(moved, 1 - share)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._adam.load_state_dict(state)
