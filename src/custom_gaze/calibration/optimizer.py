"""Adam whose steps are bounded by the loss that they are taken for."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

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
        self._steps = [torch.zeros((), device=each.device) for each in self._parameters]
        self._means, self._squares = (
            [torch.zeros_like(each) for each in self._parameters] for _ in range(2)
        )
        # Kept from step to step: taking so much memory anew costs more than writing it.
        self._moved = [torch.empty_like(parameter) for parameter in self._parameters]

    def step(self, loss: Tensor, rate: float) -> None:
        """Change the parameters in place by at most one step of Adam at `rate`.

        `loss` is a scalar with its graph, never negative. A loss that is no number makes the
        parameters none. The gradients are used up.
        """
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for moved, parameter in zip(self._moved, self._parameters, strict=True):
                moved.copy_(parameter)
            self._adam(rate)
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

    def _adam(self, rate: float) -> None:
        """A step of Adam. The function that `torch.optim.Adam` calls: the class itself loads
        torch._dynamo, for two seconds."""
        state = zip(self._parameters, self._means, self._squares, self._steps, strict=True)
        moving = [(p, p.grad, *its) for p, *its in state if p.grad is not None]
        parameters, gradients, means, squares, steps = map(list, zip(*moving, strict=True))
        adam(
            *(parameters, gradients, means, squares, [], steps),
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """What `load_state_dict` goes on from."""
        return {"steps": self._steps, "means": self._means, "squares": self._squares}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Put back what `state_dict` gave."""
        for name, mine in self.state_dict().items():
            for tensor, kept in zip(mine, state[name], strict=True):
                tensor.copy_(kept)
