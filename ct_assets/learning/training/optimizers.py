"""What a training stage trains: freezing by name, parameter groups, and the proof that none is forgotten."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from ct_assets.errors import UsageError
from ct_assets.settings.training import OptimizerSettings


class UntrainedParameterError(Exception):
    """A parameter wants a gradient and no optimizer steps it."""


def freeze(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Let only what no pattern matches be trained; return the names of frozen parameters.

    Patterns are globs on parameter names (`network.backbone.*`). Everything else is made trainable again, so that
    stages follow each other in any order. A pattern that matches nothing is a `UsageError`.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            heads = sorted({name.split(".")[0] for name in names})
            raise UsageError(f"stages.freeze: {pattern!r} matches no parameter; top modules are {heads}")
    frozen = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return sorted(frozen)


def train_mode(module: nn.Module) -> None:
    """Put the module into training mode, but keep wholly frozen parts in eval.

    A part with parameters of which none is trained keeps its BatchNorm statistics and drops nothing.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def build(
    module: nn.Module, settings: OptimizerSettings, learning_rate: float, *, fused: bool = True
) -> torch.optim.Optimizer:
    """Return the optimizer of everything trainable in `module`, checked to cover it."""
    return build_parts(module, {"all": (("*",), settings, learning_rate)}, fused=fused)[0]


def build_parts(
    module: nn.Module,
    parts: Mapping[str, tuple[Sequence[str], OptimizerSettings, float]],
    *,
    fused: bool = True,
) -> list[torch.optim.Optimizer]:
    """Return an optimizer a part (globs on parameter names, settings, learning rate), checked to cover all once.

    Vectors and scalars (biases, normalisation, learned loss weights) do not decay. A fused step is several times
    faster; under a gradient scaler with clipping it cannot be had.
    """
    trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not trainable:
        raise UsageError("stages.freeze: everything is frozen, nothing is left to train")
    built = []
    for name, (patterns, settings, rate) in parts.items():
        own = [(n, p) for n, p in trainable if any(fnmatch.fnmatch(n, pattern) for pattern in patterns)]
        if not own:
            raise UsageError(f"stages.freeze: all parameters of the part {name} are frozen")
        built.append(_build(own, settings, rate, fused=fused))
    check_covers(module, *built)
    return built


def _build(
    trainable: list[tuple[str, nn.Parameter]],
    settings: OptimizerSettings,
    learning_rate: float,
    *,
    fused: bool,
) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for _, p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for _, p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer: torch.optim.Optimizer
    if settings.kind == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    else:
        optimizer = torch.optim.SGD(
            groups,
            lr=learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov and settings.momentum > 0,
            fused=fused,
        )
    return optimizer


def check_covers(module: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    """Raise `UntrainedParameterError`, with names, unless the optimizers step exactly what is trainable, each once."""
    every = [id(p) for each in optimizers for group in each.param_groups for p in group["params"]]
    stepped = set(every)
    if twice := [n for n, p in module.named_parameters() if every.count(id(p)) > 1]:
        raise UntrainedParameterError(f"in more than one optimizer: {', '.join(twice)}")
    forgotten = [n for n, p in module.named_parameters() if p.requires_grad and id(p) not in stepped]
    if forgotten:
        raise UntrainedParameterError(f"trainable, but in no optimizer: {', '.join(forgotten)}")
    frozen = [n for n, p in module.named_parameters() if not p.requires_grad and id(p) in stepped]
    if frozen:
        raise UntrainedParameterError(f"frozen, but in the optimizer: {', '.join(frozen)}")


class MovingAverage:
    """Exponential moving average of a module's parameters; buffers are taken as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's present parameters; early updates move faster.

        The decay is at most (1 + n) / (10 + n) after n updates, so that the start is soon forgotten.
        """
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            self.values[name].lerp_(parameter.detach(), 1 - decay)

    def swapped_in(self, module: nn.Module) -> "SwappedIn":
        """Return a context in which the module has the averaged parameters."""
        return SwappedIn(self, module)

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {"values": self.values, "updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore from a checkpoint."""
        values = state["values"]
        assert isinstance(values, dict)
        for name, value in values.items():
            self.values[name].copy_(value)
        self.updates = int(str(state["updates"]))


class SwappedIn:
    """The averaged parameters in place of the module's own, inside a `with` block."""

    def __init__(self, average: MovingAverage, module: nn.Module) -> None:
        self.average = average
        self.module = module

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters():
            own = parameter.detach().clone()
            parameter.copy_(self.average.values[name])
            self.average.values[name] = own

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.module.named_parameters()
