"""One optimiser step on any number of processes: forward, backward, sum, clip, update."""

import atexit
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from hiss.errors import HissError, UsageError
from hiss.networks import Network
from hiss.noise import seeded
from hiss.training.config import TrainerConfig
from hiss.training.objective import AdversarialObjective
from hiss.types import Batch

log = logging.getLogger(__name__)

MINIMISED = ("loss", "contest", "adversary")
"""What of an objective is minimised; only an adversary adds the others to the loss."""


@dataclass(frozen=True)
class Step:
    """What came of one optimiser step: means over its examples and over all processes."""

    values: dict[str, float]
    """What the objective returned."""
    norm: float
    """Of the gradient, before clipping; with that of an adversary, which is clipped by itself."""
    leave: str | None
    """Why the run shall end, the same kind of reason in all processes: a signal ("another process", where that one
    got it), else "minutes"; None to go on."""

    @property
    def finite(self) -> bool:
        """Whether the step was taken; a loss or gradient that is not finite is left out."""
        return math.isfinite(self.values["loss"]) and math.isfinite(self.norm)


class Engine:
    """An objective with its AdamW optimiser on the devices and processes that accelerate finds."""

    def __init__(self, objective: nn.Module, config: TrainerConfig) -> None:
        self.objective, self.config = objective, config
        self.rival = objective if isinstance(objective, AdversarialObjective) else None
        self.sides = _sides(objective)
        self.accelerator = _accelerator(config.precision, contested=self.rival is not None)
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device
        if self.world > 1:
            atexit.register(_part)
        if config.compile:
            for network in (module for module in objective.modules() if isinstance(module, Network)):
                network.compile(dynamic=False)
        groups = _groups(objective, config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
        self.module, self.optimizer = self.accelerator.prepare(_Wrapped(objective), optimizer)

    def step(self, index: int, batches: Iterator[Batch], *, leave: str | None = None) -> Step:
        """Returns what came of optimiser step `index`, counted from 0; `leave`: why this process wants to end the run.

        Noise and dropout are fixed by (seed, index, process), so a resumed run draws what the killed one would have.
        """
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(index)
        if self.rival is not None:
            self.rival.plays = index >= self.rival.joins * config.steps
        sums: dict[str, Tensor] = {}
        for part in range(config.accumulate):
            batch = to_device(next(batches), self.device)
            keys = (config.seed, index, part, self.rank)
            torch.manual_seed(seeded("dropout", *keys).initial_seed())
            last = part == config.accumulate - 1
            with torch.enable_grad() if last else accelerator.no_sync(self.module):
                outputs = self.module(batch, seeded("noise", *keys))
                minimised = sum(outputs[name] for name in MINIMISED if name in outputs)
                accelerator.backward(minimised / config.accumulate)
            for name, value in outputs.items():
                share = value.detach().float() / config.accumulate
                sums[name] = sums[name] + share if name in sums else share
        accelerator.unscale_gradients()
        # Of an adversary that has not joined there is no gradient, and its norm is a zero on the CPU.
        norms = [nn.utils.clip_grad_norm_(side, config.clip or math.inf).to(self.device) for side in self.sides]
        norm = torch.stack(norms).norm()
        signalled = leave not in (None, "minutes")
        votes = torch.tensor([signalled, leave == "minutes"], device=norm.device, dtype=torch.float32)
        row = torch.cat([torch.stack([*sums.values(), norm.float()]), votes])
        # One transfer, after a mean over the processes: all of them decide alike.
        *means, size, told, late = (accelerator.reduce(row, "mean") if self.world > 1 else row).tolist()
        reason = (leave if signalled else "another process") if told else "minutes" if late else None
        step = Step(dict(zip(sums, means, strict=True)), size, reason)
        # In fp16 the gradient scaler itself leaves the step out, and must hear about it to scale less.
        if step.finite or accelerator.scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return step

    def values(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns what the objective does for this process's batch, in the precision of the run."""
        with self.accelerator.autocast():
            values: dict[str, Tensor] = self.objective(to_device(batch, self.device), generator)
        return values

    def tensors(self) -> dict[str, Tensor]:
        """Returns the weights as `model/NAME` and the state of the optimiser as `optimizer/QUANTITY/NAME`."""
        found = {f"model/{name}": value for name, value in self.objective.state_dict().items()}
        names = {id(parameter): name for name, parameter in self.objective.named_parameters()}
        for parameter, state in self.optimizer.state.items():
            found |= {f"optimizer/{quantity}/{names[id(parameter)]}": value for quantity, value in state.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `tensors` returned; learning rate and weight decay stay those of the configuration."""
        weights = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
        try:
            self.objective.load_state_dict(weights)
        except RuntimeError as error:
            raise UsageError(f"the model does not fit the saved run; resume with the same recipe: {error}") from error
        groups = self.optimizer.state_dict()["param_groups"]
        names = {id(parameter): name for name, parameter in self.objective.named_parameters()}
        ordered = [names[id(parameter)] for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, quantity, name = key.split("/", 2)
                state.setdefault(ordered.index(name), {})[quantity] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


class _Wrapped(nn.Module):
    """What accelerate may change (autocast, DDP), so that the objective itself stays as it was."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        outputs: Mapping[str, Tensor] = self.objective(batch, generator)
        return outputs


def _sides(objective: nn.Module) -> list[list[nn.Parameter]]:
    """Returns the parameters of an objective and, apart from them, those of its adversary, if it has one."""
    adversary = objective.adversary if isinstance(objective, AdversarialObjective) else None
    rivals = list(adversary.parameters()) if adversary is not None else []
    apart = {id(parameter) for parameter in rivals}
    return [[p for p in objective.parameters() if id(p) not in apart], *([rivals] if rivals else [])]


def _accelerator(precision: str, *, contested: bool) -> Any:
    """Returns accelerate's view of the machine: the device, the processes and the precision."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin
    except ImportError as error:
        raise HissError(f"training needs accelerate ({error}); install it with: pip install 'hiss[train]'") from error
    # Said explicitly, or an environment variable of `accelerate launch` would divide the loss once more.
    accumulation = GradientAccumulationPlugin(num_steps=1)
    # Started by torchrun on a machine without a GPU, accelerate would see single processes unless told to use the CPU.
    cpu = "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()
    # An adversary that has not joined yet has no gradients, which is no error.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if contested else []
    on_cpu = cpu or not torch.accelerator.is_available()
    if precision == "fp16" and on_cpu:
        raise UsageError("trainer.precision fp16 needs a GPU; on a CPU use no or bf16")
    if precision == "bf16" and on_cpu and not computes_bf16():
        log.warning("this CPU cannot compute in bf16, and would be many times slower with it: trained in float32")
        precision = "no"
    return Accelerator(
        cpu=cpu, mixed_precision=precision, gradient_accumulation_plugin=accumulation, kwargs_handlers=handlers
    )


def computes_bf16() -> bool:
    """Returns whether the CPU has instructions for bfloat16; True where torch cannot tell."""
    tell = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.12
    return tell is None or any(there for name, there in tell().items() if name.endswith("bf16"))


def uncompiled() -> AbstractContextManager[None]:
    """Returns a context in which nothing is compiled, which for a few batches of other sizes would never pay."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _part() -> None:
    """Leaves the other processes: threads that talk with them abort a program which ends while they still run."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def release() -> None:
    """Lets a later run in this process choose another precision, which accelerate would refuse."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()


def _groups(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the trainable parameters, those that decay apart from those that do not."""
    embeddings = {id(m.weight) for m in objective.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    trainable = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    named = objective.named_parameters()
    decays = {id(p) for name, p in named if _is_matrix(p) and not _is_bias(name)} - embeddings
    groups = [
        {"params": [p for p in trainable if id(p) in decays], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) not in decays], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix or a kernel; the gain of a weight norm has dimensions too, but of size 1."""
    return sum(size > 1 for size in parameter.shape) >= 2


def _is_bias(name: str) -> bool:
    """Whether a parameter is called a bias; in a list, whose items have numbers, whether the list is."""
    return "bias" in name.rstrip(".0123456789").rpartition(".")[2]


Movable = TypeVar("Movable")


def to_device(value: Movable, device: torch.device) -> Movable:
    """Returns a dataclass with all its tensors on a device."""
    moved = {
        field.name: part.to(device, non_blocking=True)
        for field in fields(value)  # type: ignore[arg-type]
        if isinstance(part := getattr(value, field.name), Tensor)
    }
    return replace(value, **moved)  # type: ignore[type-var]
