"""The 3D UNet of LayerDiff and Marigold, which denoises all frames of a page at once.

Every frame passes through the 2D UNet; between its transformer blocks, temporal transformer
blocks let the frames of one sample attend to each other at each spatial position.
Class names, state-dict keys and config keys are those of the published checkpoints
(`layerdifforg/seethroughv0.0.2_layerdiff3d`, `24yearsold/seethroughv0.0.1_marigold`).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel, UNet2DConditionOutput
from torch import Tensor, nn

SPATIAL_BLOCK = {
    "CrossFrameAttnDownBlock": "CrossAttnDownBlock2D",
    "UNetMidBlockCrossFrameAttn": "UNetMidBlock2DCrossAttn",
    "CrossFrameAttnUpBlock": "CrossAttnUpBlock2D",
}
"""The diffusers block that each cross-frame block extends."""


class CrossFrameTransformerBlock(nn.Module):
    """Attention over the frames at each spatial position; the caller adds the result to its input.

    Unlike diffusers' TemporalBasicTransformerBlock it returns its last feed-forward alone,
    so a zero last linear layer makes the whole block an identity for the caller.
    """

    output_layer = "ff.net.2"
    """The linear layer that init_weights zeroes."""

    def __init__(self, dim: int, num_attention_heads: int, attention_head_dim: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(dim)
        self.ff_in = FeedForward(dim, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads=num_attention_heads, dim_head=attention_head_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")

    def init_weights(self) -> None:
        """Zero the last linear layer: the block's update becomes zero."""
        _zero(self.get_submodule(self.output_layer))

    def forward(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        """Map (B*F, n, d), frames fastest in the first axis, to an update of the same shape."""
        # Norms and feed-forwards act on each token alone: only the attention needs the frames
        # side by side, and its result is added through a view.
        hidden_states = hidden_states + self.ff_in(self.norm_in(hidden_states))
        frames = self.norm1(hidden_states).unflatten(0, (-1, num_frames)).transpose(1, 2)
        attended = self.attn1(frames.flatten(0, 1)).view(frames.shape).transpose(1, 2)
        hidden_states = hidden_states + attended.reshape(hidden_states.shape)
        return self.ff(self.norm3(hidden_states))


class Transformer3DModel(Transformer2DModel):
    """diffusers' Transformer2DModel with temporal blocks between its spatial blocks.

    One temporal block follows each spatial block when there are fewer than three of them,
    else every second one. Takes `num_frames` in `cross_attention_kwargs`, the one
    dictionary that diffusers' blocks hand through to their transformers.

    Args:
        cross_frame: without it there are no temporal blocks, and the module computes what
            Transformer2DModel does.
        **config: the arguments of Transformer2DModel, for continuous input.
    """

    def __init__(self, *, cross_frame: bool = True, **config: Any) -> None:
        super().__init__(**config)
        spatial_blocks = len(self.transformer_blocks)
        self.temporal_stride = 1 if spatial_blocks < 3 else 2
        if cross_frame:
            self.temporal_transformer_blocks = nn.ModuleList(
                CrossFrameTransformerBlock(
                    self.inner_dim, self.num_attention_heads, self.attention_head_dim
                )
                for _ in range(spatial_blocks // self.temporal_stride)
            )
        else:
            self.temporal_transformer_blocks = nn.ModuleList()

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Transform (B*F, C, h, w), frames fastest; shapes and masks as in Transformer2DModel."""
        attention_kwargs = dict(cross_attention_kwargs or {})
        num_frames: int = attention_kwargs.pop("num_frames", 1)
        batch, _, height, width = hidden_states.shape
        residual = hidden_states
        hidden_states, inner_dim = self._operate_on_continuous_inputs(hidden_states)
        run = self._block_runner()
        for index, block in enumerate(self.transformer_blocks):
            hidden_states = run(
                block,
                hidden_states,
                attention_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                None,
                attention_kwargs,
            )
            temporal_index, rest = divmod(index + 1, self.temporal_stride)
            if rest == 0 and temporal_index <= len(self.temporal_transformer_blocks):
                temporal_block = self.temporal_transformer_blocks[temporal_index - 1]
                hidden_states = hidden_states + run(temporal_block, hidden_states, num_frames)
        output = self._get_output_for_continuous_inputs(
            hidden_states, residual, batch, height, width, inner_dim
        )
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _block_runner(self) -> Callable[..., Tensor]:
        """Call a block with its arguments, as a checkpoint unit of its own where that is on."""
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            checkpoint: Any = self._gradient_checkpointing_func
            return checkpoint
        return lambda block, *args: block(*args)


class GroupEmbedding(nn.Module):
    """A learned offset to the text condition of each frame of one tag group."""

    output_layer = "linear"
    """The linear layer that init_weights zeroes."""

    def __init__(self, num_frames: int, dim: int) -> None:
        super().__init__()
        self.params = nn.Parameter(torch.empty(num_frames, dim))
        self.linear = nn.Linear(dim, dim)
        self.reset_parameters()

    def init_weights(self) -> None:
        """Zero the linear layer: the offset becomes zero."""
        _zero(self.get_submodule(self.output_layer))

    def reset_parameters(self) -> None:
        """Draw the frames' own parameters anew, standard normal; the linear layer resets itself."""
        nn.init.normal_(self.params)

    def forward(self, condition: Tensor) -> Tensor:
        """The offset of (B*F, d) or (B*F, tokens, d), frames fastest, F the frames of the group."""
        num_frames = self.params.shape[0]
        params = self.params if condition.ndim == 2 else self.params[:, None]
        shifted = condition.unflatten(0, (-1, num_frames)) + params
        return self.linear(shifted.flatten(0, 1))


class GroupEmbeddings(nn.ModuleList):
    """The embeddings of all tag groups, one GroupEmbedding each.

    A step sees the frames of some groups only. In training all groups' modules run all the same,
    in one order, the others on zeros and with the factor 0: data parallelism wants a gradient for
    every parameter, and where parameters are cut over processes, all of these have to gather the
    same ones at the same time.
    """

    def __init__(self, frames: Sequence[int], dim: int) -> None:
        super().__init__(GroupEmbedding(num_frames, dim) for num_frames in frames)
        self.frames = tuple(frames)

    def forward(self, group_index: int, condition: Tensor) -> Tensor:
        """Add a group's offset to (B*F, d) or (B*F, tokens, d), frames fastest."""
        if not self.training:
            return condition + self[group_index](condition)
        result = condition
        for index, group in enumerate(self):
            if index == group_index:
                result = result + group(condition)
            else:
                unused = group(condition.new_zeros(self.frames[index], condition.shape[-1]))
                result = result + 0.0 * unused.sum()
        return result


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _extends_config(init: Callable[..., None]) -> Callable[..., None]:
    """Put the parent's config keys before `init`'s own: diffusers reads them off the signature."""
    parent = inspect.signature(UNet2DConditionModel.__init__)
    own = [p for p in inspect.signature(init).parameters.values() if p.kind is p.KEYWORD_ONLY]
    init.__signature__ = parent.replace(parameters=[*parent.parameters.values(), *own])  # pyright: ignore[reportFunctionMemberAccess]
    return init


class UNetFrameConditionModel(UNet2DConditionModel):
    """UNet2DConditionModel over frames, with cross-frame blocks and group embeddings.

    Config keys are those of UNet2DConditionModel, whose block-type names may also be
    `CrossFrameAttnDownBlock`, `UNetMidBlockCrossFrameAttn` and `CrossFrameAttnUpBlock`, and:

    Args:
        group_embedding: learned offsets to the text conditions, one per frame of each tag group.
        group_embedding_num: the number of frames of each tag group.
        tag_version: which inference flow the model was trained for, "v2" (one pass over 19 tags)
            or "v3" (a body and a head pass). Kept for the pipelines; the network ignores it.
    """

    _no_split_modules = [  # noqa: RUF012
        "BasicTransformerBlock",
        "CrossFrameTransformerBlock",
        "ResnetBlock2D",
        "CrossAttnUpBlock2D",
        "UpBlock2D",
    ]
    _repeated_blocks = ["BasicTransformerBlock", "CrossFrameTransformerBlock"]  # noqa: RUF012

    @register_to_config
    @_extends_config
    def __init__(
        self,
        *unet_args: Any,
        group_embedding: bool = False,
        group_embedding_num: tuple[int, ...] = (13, 11),
        tag_version: str = "v2",
        **unet_config: Any,
    ) -> None:
        given = dict(self.config)  # registered just now, defaults included
        down_types = given["down_block_types"]
        mid_type = given["mid_block_type"]
        up_types = given["up_block_types"]
        if given["dual_cross_attention"]:
            raise ValueError("dual_cross_attention has no cross-frame form: set it to false")
        unet = inspect.signature(UNet2DConditionModel.__init__).bind(
            self, *unet_args, **unet_config
        )
        unet.arguments.update(
            down_block_types=tuple(SPATIAL_BLOCK.get(name, name) for name in down_types),
            mid_block_type=SPATIAL_BLOCK.get(mid_type, mid_type),
            up_block_types=tuple(SPATIAL_BLOCK.get(name, name) for name in up_types),
        )
        super().__init__(*unet.args[1:], **unet.kwargs)
        self.register_to_config(
            down_block_types=down_types, mid_block_type=mid_type, up_block_types=up_types
        )
        block_types = [*down_types, mid_type, *up_types]
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        for block_type, block in zip(block_types, blocks, strict=True):
            _use_3d_transformers(block, cross_frame=block_type in SPATIAL_BLOCK)
        self._set_group_embeddings(group_embedding, group_embedding_num)

    def _set_group_embeddings(self, enabled: bool, frames: tuple[int, ...]) -> None:
        self.group_embeds: GroupEmbeddings | None = None
        self.group_embeds2: GroupEmbeddings | None = None
        if not enabled:
            return
        config: Any = self.config
        if config.addition_embed_type != "text_time":
            raise ValueError(
                "group_embedding offsets the pooled text of SDXL: it needs addition_embed_type "
                f"'text_time', found {config.addition_embed_type!r}"
            )
        pooled_dim = (
            config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        )
        self.group_embeds = GroupEmbeddings(frames, pooled_dim)
        self.group_embeds2 = GroupEmbeddings(frames, config.cross_attention_dim)

    def init_weights(self) -> None:
        """Make a fresh 3D network equal the 2D one per frame, exactly.

        Zeroes the last linear layer of every temporal block and of every group embedding. For
        a network whose temporal weights are new: on a trained one it
        would erase what they learned, so loading never calls it.
        """
        for module in self.modules():
            if isinstance(module, CrossFrameTransformerBlock | GroupEmbedding):
                module.init_weights()

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        group_index: int | Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """Predict the noise (or what it was trained for) of every frame.

        Args:
            sample: (B, F, in_channels, height, width), noisy latents before condition latents.
                Any height and width.
            timestep: a number, or a tensor of shape () or (B,).
            encoder_hidden_states: text states (B*F, tokens, cross_attention_dim), row b*F + f.
            added_cond_kwargs: for SDXL-shaped configs `text_embeds` (B*F, pooled width) and
                `time_ids` (B*F, 6).
            group_index: which tag group the frames are; None adds no group embedding.

        Returns:
            `.sample` of shape (B, F, out_channels, height, width).

        Raises:
            ValueError: when the text rows or the group do not fit the frames.
        """
        batch, num_frames = sample.shape[:2]
        if encoder_hidden_states.shape[0] != batch * num_frames:
            raise ValueError(
                f"encoder_hidden_states has {encoder_hidden_states.shape[0]} rows; {batch} samples "
                f"of {num_frames} frames need {batch * num_frames}, frames fastest"
            )
        conditions = dict(added_cond_kwargs or {})
        if group_index is not None:
            index = int(group_index)
            pooled, sequence = self._embeddings(index, num_frames)
            encoder_hidden_states = sequence(index, encoder_hidden_states)
            conditions["text_embeds"] = pooled(index, conditions["text_embeds"])
        if torch.is_tensor(timestep):
            timestep = timestep.to(sample.device).expand(batch).repeat_interleave(num_frames)
        (output,) = super().forward(
            sample.flatten(0, 1),
            timestep,
            encoder_hidden_states,
            cross_attention_kwargs={"num_frames": num_frames},
            added_cond_kwargs=conditions,
            return_dict=False,
        )
        output = output.unflatten(0, (batch, num_frames))
        return UNet2DConditionOutput(sample=output) if return_dict else (output,)

    def _embeddings(self, index: int, num_frames: int) -> tuple[GroupEmbeddings, GroupEmbeddings]:
        """The pooled and the sequence embeddings, which have this group with this many frames."""
        pooled, sequence = self.group_embeds, self.group_embeds2
        if pooled is None or sequence is None:
            raise ValueError("group_index given, but the model's config has no group_embedding")
        group_frames = self.config["group_embedding_num"]
        if not 0 <= index < len(group_frames):
            raise ValueError(f"group_index {index}: the model has {len(group_frames)} groups")
        if group_frames[index] != num_frames:
            raise ValueError(
                f"group {index} has {group_frames[index]} frames, the sample has {num_frames}"
            )
        return pooled, sequence


def _use_3d_transformers(block: nn.Module | None, cross_frame: bool) -> None:
    """Put a Transformer3DModel in the place of each Transformer2DModel of one UNet block."""
    attentions = getattr(block, "attentions", None)
    if not isinstance(attentions, nn.ModuleList):
        return
    for index, attention in enumerate(attentions):
        if isinstance(attention, Transformer2DModel):
            attentions[index] = Transformer3DModel(cross_frame=cross_frame, **attention.config)
