"""UrnScheduler: a scheduler for diffusers' pipelines that runs any of Urn's plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from urn.adapters.diffusers.chosen import OWN, checked_grid, checked_method
from urn.adapters.diffusers.segments import Generators, Run, calls_per_step
from urn.adapters.diffusers.source import Source, defaults, is_even, plain, source_of
from urn.binding import bind
from urn.compiler import compile_plan
from urn.methods import find_method
from urn.model import Model
from urn.plan import Plan


class UrnScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Any of Urn's plans as the scheduler of an unchanged diffusers pipeline.

    The process, what the network predicts and, without `grid`, the times of the steps are those of the scheduler in whose
    place it stands; the method is Urn's, so what there chooses one (`solver_order`, `eta`, ...) has no effect. `clip_sample`
    and `thresholding` clip the predictions of x0, in the plan. Latents are x_t = alpha_t x0 + sigma_t epsilon, as in DDIM and
    DPMSolver; those of diffusers' Euler family are these divided by alpha_t. `timesteps` has one entry per model call.

    Args:
        method: a name in `urn.METHODS`, or an alias; by default "adams_pc_3".
        options: of the method, by name.
        grid: a name in `urn.GRIDS` (on a flow it is shifted as the settings say), a list of times in the process's own t,
            taken as it is, or None for the times of the source's class.
        final: None, or "x0" for one more call at the grid's end and a jump to the clean prediction.
        plan: in place of all of these, a plan for `scheduler.process`, or its JSON. It has its own number of steps.
        source: the name of the class of which `settings` are the config.
        settings: the settings of that class, as in its config.

    Raises:
        ValueError: an unknown name, or a setting that cannot be honoured.

    Example:
        >>> pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method="unipc_3", grid="quadratic")
    """

    has_compatibles = False

    def __init__(
        self,
        method: str | None = None,
        options: Mapping[str, Any] | None = None,
        grid: str | Sequence[float] | None = None,
        final: str | None = None,
        plan: Plan | str | None = None,
        source: str = "DDIMScheduler",
        **settings: Any,
    ) -> None:
        known = defaults(source)
        if plan is not None and not (method is None and grid is None and final is None and not options):
            raise ValueError("plan: given beside method, options, grid or final, which are in it")
        name = None if plan is not None else checked_method(method or "adams_pc_3", options or {})
        self.register_to_config(  # type: ignore[no-untyped-call]
            **{key: plain(value) for key, value in {**known, **settings}.items()},
            method=name,
            options=dict(options or {}),
            grid=checked_grid(grid),
            final=final,
            plan=plan.to_json() if isinstance(plan, Plan) else plan,
            source=source,
        )
        self._given = None if plan is None else Plan.from_json(self.config["plan"])
        self._read: Source | None = None
        self._whole: Run | None = None
        self._run: Run | None = None
        self._begin_index: int | None = None
        self.num_inference_steps: int | None = None
        self._listed: list[float] = []
        self.timesteps = torch.arange(self._source.trained - 1, -1, -1)
        if self._given is not None and self._given.process != self.process:
            raise ValueError(f"plan: it is for {self._given.process}, the network's process is {self.process}")

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **chosen: Any) -> Any:
        """The scheduler in the place of the one that has this config, or of an UrnScheduler's own.

        Args:
            config: a scheduler's `config`, or what `load_config` read.
            chosen: `method`, `options`, `grid`, `final`, `plan`; `source`, where the config does not name its class; and any of
                the settings, in place of the config's.

        Raises:
            ValueError: a name that is neither, or a config that is none of those supported.
        """
        if not isinstance(config, Mapping):
            raise ValueError(f"config={config!r} must be a scheduler's config")
        given = {key: value for key, value in config.items() if not key.startswith("_")}
        source = str(chosen.pop("source", None) or source_of(config))
        allowed = {*OWN, *given, *defaults(source)}
        if unknown := [name for name in chosen if name not in allowed]:
            raise ValueError(
                f"{unknown[0]}={chosen[unknown[0]]!r} is neither {', '.join(OWN)} nor a setting of {source}"
            )
        if "plan" in chosen or "method" in chosen:  # what belonged to the one before
            given = {key: value for key, value in given.items() if key not in OWN}
        made = cls(**{"source": source, **given, **chosen})
        return (made, {}) if return_unused_kwargs else made

    @property
    def _source(self) -> Source:
        """What the config says; read again where a pipeline has replaced a setting."""
        settings = {key: value for key, value in self.config.items() if key not in OWN and not key.startswith("_")}
        if self._read is None or self._read.settings != settings:
            self._read = Source.of(self.config["source"], settings)
        return self._read

    @property
    def process(self) -> Any:
        """The network's process: compile plans for it."""
        return self._source.process

    @property
    def model_predicts(self) -> str | tuple[str, ...]:
        """What the network predicts, as `urn.Model` takes it."""
        return self._source.predicts

    @property
    def plan(self) -> Plan:
        """The plan that runs; `print` it. There is one after `set_timesteps`."""
        return self._running().plan

    @property
    def order(self) -> int:
        """Model calls per step, where all steps have as many (the last may have fewer), else 1.

        Pipelines count with it: step i of an image-to-image run begins at `timesteps[i * order]`.
        """
        return 1 if self._whole is None else calls_per_step(self._whole.plan)

    @property
    def init_noise_sigma(self) -> float:
        """The std of the latents at the start: 1; sigma there on a flow, and where the source's class has it so."""
        return self._source.start_std(self.process.t_start if self._run is None else self._run.plan.times[0])

    @property
    def step_index(self) -> int | None:
        """The place in `timesteps` of the next model call; None before the first."""
        if self._run is None or self._run.position == 0:
            return None
        return (self._begin_index or 0) + self._run.position

    @property
    def begin_index(self) -> int | None:
        """The place in `timesteps` where the run begins."""
        return self._begin_index

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """Compile the plan of a run, and forget the run before.

        Args:
            num_inference_steps: steps of the grid.
            timesteps: or the times of the steps, decreasing, as the network is shown them; the end is added.
            sigmas: or their noise levels: sigma/alpha with the last one the end (as EulerDiscrete takes them), on a flow
                sigma before the shift, without the end. Some pipelines always pass 1, ..., 1/n: with `grid` or `plan` that is n
                steps.
            mu: of `use_dynamic_shifting`.

        Raises:
            ValueError: not one of the first three is given, or it does not suit the process.
            PlanError: the plan cannot run in a pipeline, or not on this network.
        """
        source, grid = self._source, self.config["grid"]
        if (grid is not None or self._given is not None) and sigmas is not None and source.is_flow and is_even(sigmas):
            num_inference_steps, sigmas = len(sigmas), None
        if timesteps is not None and sigmas is not None:
            raise ValueError("timesteps and sigmas: only one of them can be given")
        given = timesteps if timesteps is not None else sigmas
        if num_inference_steps is None and given is None:
            raise ValueError("num_inference_steps=None: it, timesteps or sigmas must be given")
        if self._given is not None:
            if given is not None or num_inference_steps != self._given.steps:
                what = f"num_inference_steps={num_inference_steps}" if given is None else "timesteps or sigmas"
                raise ValueError(f"{what}: the plan given has {self._given.steps} steps of its own")
            plan = self._given
        else:
            count = None if given is not None else num_inference_steps
            if count is not None and (isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1):
                raise ValueError(f"num_inference_steps={count!r} must be an integer of at least 1")
            plan = self._compiled(source.times(count, grid, timesteps, sigmas, mu))
            if num_inference_steps not in (None, plan.steps) and given is not None:
                raise ValueError(f"num_inference_steps={num_inference_steps}: the times given have {plan.steps} steps")
        self._whole = self._run = self._new_run(plan)
        self._begin_index, self.num_inference_steps = None, plan.steps
        shown = self._shown(self._run)
        self._listed, self.timesteps = [float(t) for t in shown], shown.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at `timesteps[begin_index]`, as image-to-image does: the plan is compiled on the times that remain. Where that
        would call the network at other times, and for a plan that was given, the rest of the plan runs, from a call before
        which only the state is known.

        Raises:
            ValueError: neither can begin there.
        """
        self._running()
        self._run, self._begin_index = self._rest(begin_index) if begin_index else self._whole, begin_index

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """What the network is shown of the latents: they themselves."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Take the output of one model call, and run the plan to the next.

        Args:
            model_output: what the network returned for `sample` at `timestep`.
            timestep: the entry of `timesteps` whose turn it is.
            sample: what the network was shown; a pipeline may have changed it since the last step.
            generator: where the plan's noise is drawn from: one, a list of one per sample, with which a sample does not
                depend on its batch, or None for torch's own.
            return_dict: whether to return a SchedulerOutput rather than a tuple.
            eta: only 0, which pipelines pass; the method has its own.
            use_clipped_model_output: only None or False; predictions are clipped where the settings say so.

        Returns:
            What the network is shown next, after the last call the sample, as `prev_sample`.

        Raises:
            ValueError: it is another timestep's turn, the plan has ended, `set_timesteps` was not called, the batch is
                another than before, or an argument is not one of these.
        """
        if eta or use_clipped_model_output:
            name, value = ("eta", eta) if eta else ("use_clipped_model_output", use_clipped_model_output)
            raise ValueError(
                f"{name}={value!r}: the method has it: UrnScheduler takes options={{'eta': ...}} and clip_sample"
            )
        run = self._turn(timestep)
        outputs: tuple[Tensor, ...] = (model_output,)
        if isinstance(run.model.predicts, tuple):
            if model_output.shape[1] != 2 * sample.shape[1]:
                raise ValueError(
                    f"model_output has {model_output.shape[1]} channels, not the {2 * sample.shape[1]} of "
                    "variance_type='learned_range': a prediction and a variance"
                )
            outputs = tuple(model_output.chunk(2, dim=1))
        self._run, shown = run.step(outputs, sample, generator)
        return SchedulerOutput(prev_sample=shown) if return_dict else (shown,)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha_t x0 + sigma_t noise at a timestep per sample, (B,), or at one for all.

        Raises:
            ValueError: another number of timesteps, or one that the network was not trained on.
        """
        t = self._source.time(torch.as_tensor(timesteps).reshape(-1))
        low, high = self.process.domain
        if len(t) not in (1, len(original_samples)) or not bool(((t >= low) & (t <= high)).all()):
            last = self._source.shown(high)
            raise ValueError(f"timesteps={timesteps} must be one or {len(original_samples)} of at most {last:g}")
        shape = (-1, *[1] * (original_samples.ndim - 1))
        alpha, sigma = (f(t).to(original_samples).reshape(shape) for f in (self.process.alpha, self.process.sigma))
        noised: Tensor = alpha * original_samples + sigma * noise
        return noised

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """`add_noise` under the name and order of arguments that pipelines of flows use."""
        return self.add_noise(sample, noise, timestep)

    def __len__(self) -> int:
        return self._source.trained

    def _running(self) -> Run:
        if self._run is None:
            raise ValueError("the scheduler has no plan yet: call set_timesteps first")
        return self._run

    def _turn(self, timestep: Any) -> Run:
        """The run at the call for a timestep; a first one may be in the middle (image-to-image without set_begin_index)."""
        run = self._running()
        one = timestep.reshape(-1)[0] if isinstance(timestep, Tensor) and timestep.ndim else timestep
        found = float(one)
        if run.position == len(run.segments):
            raise ValueError(f"the plan has ended after its {len(run.segments)} model calls: call set_timesteps again")
        place = (self._begin_index or 0) + run.position
        listed = self._listed
        if math.isclose(found, listed[place], rel_tol=1e-6, abs_tol=1e-6):
            return run
        if run.position == 0 and self._begin_index is None and found in listed[:: self.order]:
            self.set_begin_index(self.order * listed[:: self.order].index(found))
            return self._running()
        turn = f"it is the turn of timesteps[{place}] = {listed[place]!r}"
        raise ValueError(f"timestep={found!r}: {turn}; set_timesteps starts over")

    def _compiled(self, times: Tensor) -> Plan:
        method = self._source.method(find_method(self.config["method"]).with_options(**self.config["options"]))
        plan: Plan = compile_plan(method, self.process, grid=times, final=self.config["final"])
        return plan

    def _new_run(self, plan: Plan) -> Run:
        run = Run.of(plan, Model(lambda x, _: x, self.process, self.model_predicts))
        for segment in run.segments:  # now rather than at the call, which then takes less time
            bind(segment, {})
        return run

    def _shown(self, run: Run) -> Tensor:
        """The run's timesteps: integers where all of them are."""
        shown = torch.tensor([self._source.shown(t) for t in run.shown], dtype=torch.float64)
        whole = bool((shown == shown.round()).all())
        return shown.to(torch.int64 if whole and not self._source.is_flow else torch.float32)

    def _rest(self, begin: int) -> Run:
        """The run on the times from `timesteps[begin]` on."""
        whole, listed = self._whole or self._running(), self._listed
        if not 0 < begin < len(listed):
            raise ValueError(f"begin_index={begin} must be from 0 to {len(listed) - 1}")
        times = whole.plan.times
        if self._given is None and whole.shown[begin] in times[:-1]:
            remain = times[times.index(whole.shown[begin]) :]
            rest = self._new_run(self._compiled(torch.tensor(remain, dtype=torch.float64)))
            if [float(t) for t in self._shown(rest)] == listed[begin:]:
                return rest
        if whole.begins(begin):
            return replace(whole, segments=whole.segments[begin:])
        given = "as it is a plan that was given, it is not compiled again"
        why = "compiled on the times that remain, it calls the network at others" if self._given is None else given
        raise ValueError(
            f"begin_index={begin}: {whole.plan.method} cannot begin there: at that call it needs more than the state, and {why}; "
            "image-to-image needs a method with the same number of calls in every step, or a plan of one-step methods"
        )
