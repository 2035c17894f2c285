"""The sections that every training stage is made of."""

from collections.abc import Iterator
from typing import ClassVar, Literal, TypeAlias

from seethrough.recipe import (
    REQUIRED,
    Execution,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Source,
    Stage,
    recipe,
)


@recipe
class Data(Section):
    """Which samples a stage trains on, and how many make one optimizer step."""

    sources: tuple[tuple[Source, int], ...] = REQUIRED
    """Sample lists with their rates: a rate of n repeats the list n times in an epoch."""

    global_batch: PositiveInt = 1
    """Samples per optimizer step over all processes; hardware only splits it."""

    bad_samples: Execution[Literal["stop", "skip"]] = "stop"
    """What a sample that can't be read does: stop the run, or give its place to another one and
    have its name in bad_samples.jsonl."""


@recipe
class Optim(Section):
    """What all optimizers share."""

    lr: PositiveFloat = 1e-4
    """Peak learning rate."""

    lr_scaling: Literal["none", "global_batch"] = "none"
    """Multiply the peak by the samples of a step (Goyal et al., 2017), or leave it as it is."""

    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""

    max_grad_norm: PositiveFloat | None = 1.0
    """Clip the gradient's global norm to this; none leaves it alone."""

    ema_decay: Fraction | None = None
    """Decay per step of an exponential moving average of the weights; none keeps no average."""

    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Autocast type of the forward pass; weights and optimizer stay in float32. Under ZeRO the
    network holds a copy of its weights in this type."""


@recipe
class AdamW(Optim):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), fused."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of the first and the second moment."""

    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


@recipe
class AdamW8bit(Optim):
    """AdamW with block-wise 8-bit moments (bitsandbytes): 2 bytes a parameter in place of 8."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of the first and the second moment."""

    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


@recipe
class Adafactor(Optim):
    """Factored second moments (Shazeer and Stern, 2018), no first moment, fixed step size."""

    clip_threshold: PositiveFloat = 1.0
    """Root mean square above which an update is scaled down."""

    decay_rate: float = -0.8
    """Exponent of the second moment's decay over steps."""


AnyOptim: TypeAlias = AdamW | AdamW8bit | Adafactor


@recipe
class Schedule(Section):
    """How long a stage trains, its learning rate over steps, and what happens on the way."""

    max_steps: PositiveInt = REQUIRED
    """Optimizer steps."""

    lr_schedule: Literal[
        "constant", "linear", "cosine", "cosine_wave", "polynomial", "piecewise"
    ] = "constant"
    """Shape of the learning rate after warm-up."""

    warmup_steps: NonNegativeInt = 500
    """Steps over which the learning rate grows linearly from 0 to its peak."""

    warmup_epochs: NonNegativeFloat | None = None
    """The same in epochs of the samples, in place of warmup_steps; an epoch's steps are rounded
    up."""

    cycles: PositiveInt = 1
    """Cosine: how often the learning rate starts again from the peak."""

    periods: PositiveFloat = 0.5
    """Cosine wave: full periods of a cosine without jumps; with a half the rate falls once, with
    3.5 it falls, and rises to the peak again, three times more."""

    floor: Fraction = 0.0
    """Linear, both cosines and polynomial: lowest learning rate as a share of the peak."""

    power: PositiveFloat = 1.0
    """Polynomial: exponent of the decay."""

    pieces: tuple[tuple[int, float], ...] = ()
    """Piecewise: (first step, share of the peak) in rising order; 1 before the first."""

    peaks: tuple[tuple[NonNegativeInt, PositiveFloat], ...] = ()
    """(First step, share of optim.lr) in rising order: what the peak is from that step on, while
    the schedule goes on as it was; 1 before the first. To force another rate onto a run that
    stopped, name the step and run on with --accept=STAGE."""

    anneal_steps: NonNegativeInt = 0
    """Last steps, over which the learning rate falls linearly to 0 from where its schedule has
    it; a schedule that ends high is better averaged or annealed."""

    checkpoint_every: Execution[PositiveInt] = 4000
    """Steps between checkpoints."""

    keep_checkpoints: Execution[PositiveInt] = 10
    """How many checkpoints stay on disk; the oldest go first."""

    validate_every: Execution[PositiveInt | None] = None
    """Steps between validations; none never validates."""

    pictures_every: Execution[PositiveInt | None] = 500
    """Steps between pictures; none makes no pictures."""

    log_every: Execution[PositiveInt] = 10
    """Steps between lines in the log; the host waits for the device only then."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.warmup_steps >= self.max_steps:
            yield "warmup_steps", f"warm-up must end before max_steps={self.max_steps}"
        if self.anneal_steps > self.max_steps - self.warmup_steps:
            yield "anneal_steps", "must begin after warm-up"
        for name, pairs in (("pieces", self.pieces), ("peaks", self.peaks)):
            steps = [step for step, _ in pairs]
            if steps != sorted(set(steps)):
                yield name, "steps must rise"
        if bool(self.pieces) != (self.lr_schedule == "piecewise"):
            yield "pieces", "belongs to lr_schedule=piecewise, and that needs at least one piece"


@recipe
class DeepSpeed(Section):
    """How weights, gradients and optimizer state are spread over the processes."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    """ZeRO stage (Rajbhandari et al., 2020): 1 spreads the optimizer's state over the processes, 2
    the gradients too, 3 the weights too; 0 spreads nothing and leaves DeepSpeed out."""

    offload_optimizer: Literal["cpu"] | None = None
    """Keep the optimizer's state in host memory; none on the device. Not on a disk: there
    DeepSpeed (0.19.8) goes wrong from the second step on."""

    offload_parameters: Literal["cpu", "nvme"] | None = None
    """ZeRO-3: keep the weights in host memory or on a disk between uses; none on the device."""

    nvme_path: str | None = None
    """Folder on the disk that weights are offloaded to."""

    reduce_bucket_size: PositiveInt = 500_000_000
    """Gradient elements that are reduced at once."""

    allgather_bucket_size: PositiveInt = 500_000_000
    """ZeRO-1 and 2: weight elements that are gathered at once after a step."""

    overlap_comm: bool | None = None
    """Reduce gradients while the backward pass goes on, which doubles their buckets; none is
    DeepSpeed's choice: with ZeRO-3 alone."""

    prefetch_bucket_size: PositiveInt = 50_000_000
    """ZeRO-3: weight elements that are fetched before they are needed."""

    persistence_threshold: NonNegativeInt = 100_000
    """ZeRO-3: parameters of fewer elements stay whole on every device."""

    max_live_parameters: PositiveInt = 1_000_000_000
    """ZeRO-3: gathered weight elements that a device holds at most before it lets some go."""

    sub_group_size: PositiveInt = 1_000_000_000
    """ZeRO-3: elements that the optimizer steps at once, which bounds what an offloaded step
    moves."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.offload_optimizer is not None and self.zero_stage == 0:
            yield "offload_optimizer", "needs zero_stage of at least 1"
        if self.offload_parameters is not None and self.zero_stage != 3:
            yield "offload_parameters", "needs zero_stage=3"
        if (self.offload_parameters == "nvme") != (self.nvme_path is not None):
            yield "nvme_path", "belongs to offload_parameters=nvme, and that needs it"


@recipe
class Device(Section):
    """What a stage in one process runs on."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a GPU."""

    threads: PositiveInt | None = None
    """CPU threads of each process; none leaves PyTorch's choice."""


@recipe
class Hardware(Device):
    """What a training stage runs on; none of it changes what is computed beyond rounding."""

    processes: PositiveInt = 1
    """Processes on this machine, one a GPU."""

    micro_batch: PositiveInt = 1
    """Samples per process and forward pass."""

    loader_workers: NonNegativeInt = 4
    """Processes that load data, for each training process; 0 loads in the loop."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""

    channels_last: bool = False
    """Lay the weights of convolutions out with channels last, which suits tensor cores."""

    compile: bool = False
    """Compile the network with torch.compile."""

    reshard: bool = False
    """Go on from a checkpoint that another number of processes, another micro-batch or another
    ZeRO stage wrote: to rounding then, not to the same bits."""

    device_memory_gib: PositiveFloat = 80.0
    """Memory of one device in GiB; the plan compares its estimate with this."""

    host_memory_gib: PositiveFloat | None = None
    """Memory of the machine in GiB; the plan compares its estimate with this. None knows none."""


@recipe
class Tracking(Section):
    """Where numbers and pictures of a run go."""

    tracker: str | None = "wandb"
    """wandb (offline when there is no key), tensorboard, another tracker that accelerate knows,
    or none. One that fails is told of and left out: training goes on."""

    project: str = "see-through"
    """Project's name at the tracker."""


@recipe
class TrainStage(Stage):
    """A stage that the training loop runs; a family narrows the sections."""

    resumes: ClassVar[bool] = True

    seed: int = 42
    """Seed of sample order, augmentation, noise and new weights."""

    data: Data = Data()
    """Samples and batch."""

    optim: AnyOptim = AdamW()
    """Optimizer."""

    schedule: Schedule = Schedule()
    """Length and learning rate."""

    deepspeed: Execution[DeepSpeed] = DeepSpeed()
    """Distribution of the state."""

    hardware: Execution[Hardware] = Hardware()
    """Machine."""

    tracking: Execution[Tracking] = Tracking()
    """Trackers."""

    @property
    def network(self) -> Source | None:
        """Where the weights to start from come from; none makes new ones."""
        return None

    @property
    def parameters(self) -> int | None:
        """Parameters of the network where they are known beforehand."""
        return None

    @property
    def trained_parameters(self) -> int | None:
        """How many of them are trained where that is known beforehand; none where all are."""
        return None

    @property
    def peak_lr(self) -> float:
        """The peak learning rate of a step, scaled."""
        scaled = self.optim.lr_scaling == "global_batch"
        return self.optim.lr * self.data.global_batch if scaled else self.optim.lr

    @property
    def opponent_optim(self) -> AnyOptim | None:
        """Optimizer of a second network, trained against the first; none where there is none. Its
        rate follows the same schedule; it scales with no batch, has no average, and computes in the
        first one's precision."""
        return None

    @property
    def accumulation(self) -> int:
        """Micro-batches per process and optimizer step."""
        return self.data.global_batch // (self.hardware.processes * self.hardware.micro_batch)

    def check(self) -> Iterator[tuple[str, str]]:
        share = self.hardware.processes * self.hardware.micro_batch
        if self.data.global_batch % share:
            yield (
                "data.global_batch",
                f"{self.data.global_batch} doesn't split over processes={self.hardware.processes}"
                f" x micro_batch={self.hardware.micro_batch}",
            )
        if self.deepspeed.zero_stage > 0:
            yield from self._check_zero()
        if self.optim.precision == "fp16" and self.hardware.device == "cpu":
            yield "optim.precision", "fp16 needs a GPU: use bf16 or fp32 on the CPU"
        if self.opponent_optim is not None:
            yield from self._check_opponent()

    def _check_opponent(self) -> Iterator[tuple[str, str]]:
        if self.deepspeed.zero_stage > 0:
            yield (
                "deepspeed.zero_stage",
                "DeepSpeed drives one network, and a discriminator is a second: set it to 0",
            )
        if self.optim.precision == "fp16":
            yield "optim.precision", "fp16 scales one loss, and there are two: use bf16 or fp32"

    def _check_zero(self) -> Iterator[tuple[str, str]]:
        stage = f"deepspeed.zero_stage={self.deepspeed.zero_stage}"
        if not isinstance(self.optim, AdamW):
            yield "optim", f"{stage} cuts its state anywhere, which only AdamW's allows"
        if self.optim.precision == "fp16":
            yield "optim.precision", f"{stage} trains in bf16 or fp32"
        if self.hardware.channels_last:
            yield "hardware.channels_last", f"{stage} lays weights out end to end: set it to false"
        if self.hardware.compile and self.deepspeed.zero_stage == 3:
            yield "hardware.compile", f"{stage} gathers weights as they are used: set it to false"
