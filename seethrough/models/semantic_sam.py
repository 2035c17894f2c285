"""SAM-HQ without prompts, with a mask for each body part: the published `SemanticSam`.

The parts are those of `segment-anything-hq` (Ke et al., "Segment Anything in High Quality", 2023);
what is ours is the adapter that gives each class a head of its own. State-dict keys are as
published.
"""

import math
import warnings
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

with warnings.catch_warnings(action="ignore"):
    # The package registers models of timm anew, by timm's former paths, and is told of both.
    from segment_anything_hq.modeling import (
        ImageEncoderViT,
        MaskDecoderHQ,
        PromptEncoder,
        TwoWayTransformer,
    )
    from segment_anything_hq.modeling.mask_decoder import MaskDecoder
    from segment_anything_hq.modeling.mask_decoder_hq import MLP

MaskDecoderVariant: TypeAlias = Literal["mlp_variant", "token_variant"]
"""What each class has of its own: the MLPs behind a common token, or a token before common MLPs."""

MASK_TOKEN = 1
"""SAM's mask token that classes start from and, with MLPs of their own, share: the first of the
three that it gives a choice with."""


@attrs.frozen(kw_only=True)
class SamArchitecture:
    """Sizes of a SAM; the defaults are those that all published ones share."""

    width: int
    """Of the image encoder's tokens."""
    depth: int
    """Its blocks."""
    heads: int
    """Its attention heads."""
    global_blocks: tuple[int, ...]
    """Those of its blocks that attend to the whole picture; the others attend within windows."""
    hq: bool = True
    """Whether it has the parts that SAM-HQ adds."""
    image_size: int = 1024
    """Side of the square picture in px."""
    patch_size: int = 16
    """Side of a token in px."""
    window_size: int = 14
    """Side of a window in tokens."""
    decoder_width: int = 256
    """Of the tokens of prompts and masks."""
    decoder_mlp_width: int = 2048
    """Of the mask decoder's hidden layers."""

    @property
    def grid(self) -> int:
        """Side of the picture in tokens."""
        return self.image_size // self.patch_size


_SIZES = {
    "b": {"width": 768, "depth": 12, "heads": 12, "global_blocks": (2, 5, 8, 11)},
    "l": {"width": 1024, "depth": 24, "heads": 16, "global_blocks": (5, 11, 17, 23)},
    "h": {"width": 1280, "depth": 32, "heads": 16, "global_blocks": (7, 15, 23, 31)},
}
ARCHITECTURES: dict[str, SamArchitecture] = {
    f"{name}{ending}": SamArchitecture(**sizes, hq=bool(ending))
    for name, sizes in _SIZES.items()
    for ending in ("", "_hq")
}
"""The published ones by `model_type`."""


class ImageEncoder(ImageEncoderViT):
    """The package's image encoder, whose blocks can be recomputed in the backward pass."""

    recompute = False

    # The package annotates a tensor and returns a pair.
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(B, 3, S, S) -> features (B, C, s, s), and tokens (B, s, s, width) after the first block
        that attends to the whole picture."""
        x = self.patch_embed(x)
        assert self.pos_embed is not None
        x = x + self.pos_embed
        early: Tensor | None = None
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if early is None and block.window_size == 0:
                early = x
        assert early is not None
        return self.neck(x.permute(0, 3, 1, 2)), early


class ImageAdapter(nn.Module):
    """Holds the image encoder under its published name."""

    def __init__(self, shape: SamArchitecture) -> None:
        super().__init__()
        self.sam_img_encoder = ImageEncoder(
            img_size=shape.image_size,
            patch_size=shape.patch_size,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            out_chans=shape.decoder_width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
            use_rel_pos=True,
            window_size=shape.window_size,
            global_attn_indexes=shape.global_blocks,
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self.sam_img_encoder(pictures)


class PromptAdapter(nn.Module):
    """Holds the prompt encoder; what it says of no prompt is all that is used."""

    def __init__(self, shape: SamArchitecture) -> None:
        super().__init__()
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=shape.decoder_width,
            image_embedding_size=(shape.grid, shape.grid),
            input_image_size=(shape.image_size, shape.image_size),
            mask_in_chans=16,
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """What stands for no mask, and the positions' encoding: both (1, C, s, s)."""
        _, dense = self.sam_prompt_encoder(points=None, boxes=None, masks=None)
        return dense, self._positions().to(dense.dtype)

    def _positions(self) -> Tensor:
        """The encoding of `PromptEncoder.get_dense_pe`, in float32 whatever the weights' type is.

        In bfloat16 these angles of several turns would be off by up to a tenth of a radian.
        """
        encoder = self.sam_prompt_encoder
        frequencies: Any = encoder.pe_layer.positional_encoding_gaussian_matrix
        x_frequency, y_frequency = frequencies.float()
        height, width = encoder.image_embedding_size
        y, x = (
            2 * (torch.arange(side, device=frequencies.device) + 0.5) / side - 1
            for side in (height, width)
        )
        # A sum of products in place of a matrix product, which autocast would round.
        angles = 2 * math.pi * (x[None, :, None] * x_frequency + y[:, None, None] * y_frequency)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).permute(2, 0, 1)[None]


class MaskAdapter(nn.Module):
    """SAM's mask decoder without its own heads, and a head for each class."""

    def __init__(self, class_num: int, shape: SamArchitecture, variant: MaskDecoderVariant) -> None:
        super().__init__()
        self.class_num = class_num
        self.hq = shape.hq
        self.per_class_mlps = variant == "mlp_variant"
        width = shape.decoder_width
        transformer = TwoWayTransformer(
            depth=2, embedding_dim=width, mlp_dim=shape.decoder_mlp_width, num_heads=8
        )
        decoder: Any
        if shape.hq:
            decoder = MaskDecoderHQ(
                transformer_dim=width, transformer=transformer, vit_dim=shape.width
            )
            del decoder.hf_mlp
        else:
            decoder = MaskDecoder(transformer_dim=width, transformer=transformer)
        del decoder.output_hypernetworks_mlps
        self.sam_mask_decoder = decoder

        def mlp() -> MLP:
            return MLP(width, width, width // 8, 3)

        if self.per_class_mlps:
            self.output_hypernetworks_mlps = nn.ModuleList(mlp() for _ in range(class_num))
            if shape.hq:
                self.hf_mlps = nn.ModuleList(mlp() for _ in range(class_num))
        else:
            del decoder.mask_tokens
            self.output_hypernetworks_mlp = mlp()
            self.sem_mask_tokens = nn.Embedding(class_num, width)
            if shape.hq:
                del decoder.hf_token
                self.hf_mlp = mlp()
                self.hq_mask_tokens = nn.Embedding(class_num, width)

    def forward(
        self, features: Tensor, early: Tensor, dense: Tensor, positions: Tensor, hq_token_only: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, classes, 4 s, 4 s) and estimated IoUs (B, 4), which nothing teaches.

        Args:
            features: (B, C, s, s) of the picture.
            early: (B, s, s, width), tokens of an early block of the image encoder.
            dense: (1, C, s, s), what stands for no mask.
            positions: (1, C, s, s), their encoding.
            hq_token_only: whether to leave out what SAM without HQ would say.
        """
        decoder = self.sam_mask_decoder
        count = len(features)
        tokens = self._tokens()[None].expand(count, -1, -1)
        hidden, mixed = decoder.transformer(
            features + dense, positions.expand(count, -1, -1, -1), tokens
        )
        mixed = mixed.transpose(1, 2).unflatten(2, features.shape[2:])
        upscaled = decoder.output_upscaling(mixed)
        ious = decoder.iou_prediction_head(hidden[:, 0])
        plain_heads, hq_heads = self._heads(hidden)
        plain = _dot(plain_heads, upscaled)
        if hq_heads is None:
            return plain, ious
        fine = decoder.embedding_encoder(features) + decoder.compress_vit_feat(
            early.permute(0, 3, 1, 2)
        )
        hq = _dot(hq_heads, decoder.embedding_maskfeature(upscaled) + fine)
        return (hq if hq_token_only else plain + hq), ious

    def _tokens(self) -> Tensor:
        """The tokens that attend to the picture, (n, C): that of the IoUs first."""
        decoder = self.sam_mask_decoder
        parts = [decoder.iou_token.weight]
        if self.per_class_mlps:
            parts.append(decoder.mask_tokens.weight)
            parts += [decoder.hf_token.weight] if self.hq else []
        else:
            parts.append(self.sem_mask_tokens.weight)
            parts += [self.hq_mask_tokens.weight] if self.hq else []
        return torch.cat(parts)

    def _heads(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each class multiplies the channels of the upscaled features by, (B, classes, C / 8):
        of SAM, and of its HQ part if it has one."""
        if self.per_class_mlps:
            token = hidden[:, 1 + MASK_TOKEN]
            plain = torch.stack([mlp(token) for mlp in self.output_hypernetworks_mlps], dim=1)
            if not self.hq:
                return plain, None
            return plain, torch.stack([mlp(hidden[:, -1]) for mlp in self.hf_mlps], dim=1)
        own = hidden[:, 1 : 1 + self.class_num]
        plain = self.output_hypernetworks_mlp(own)
        return plain, self.hf_mlp(hidden[:, 1 + self.class_num :]) if self.hq else None


class SemanticSam(nn.Module):
    """A mask for each of `class_num` parts of a picture; parts may overlap.

    Args:
        class_num: how many parts.
        model_type: "b", "l" or "h", with "_hq" for SAM-HQ; or sizes of one's own.
        mask_decoder: what each class has of its own.
        fix_img_en: whether the image encoder is frozen; likewise `fix_prompt_en`, and
            `fix_mask_de` for the mask decoder without the classes' heads.
    """

    def __init__(
        self,
        class_num: int,
        *,
        model_type: str | SamArchitecture = "h_hq",
        mask_decoder: MaskDecoderVariant = "mlp_variant",
        fix_img_en: bool = False,
        fix_prompt_en: bool = False,
        fix_mask_de: bool = False,
    ) -> None:
        super().__init__()
        if class_num < 1:
            raise ValueError(f"class_num={class_num}: a model has at least one class")
        if mask_decoder not in get_args(MaskDecoderVariant):
            known = " or ".join(get_args(MaskDecoderVariant))
            raise ValueError(f"mask_decoder={mask_decoder!r}: known are {known}")
        if isinstance(model_type, str):
            if model_type not in ARCHITECTURES:
                raise ValueError(f"model_type={model_type!r}: known are {', '.join(ARCHITECTURES)}")
            model_type = ARCHITECTURES[model_type]
        self.class_num = class_num
        self.architecture = model_type
        self.mask_decoder = mask_decoder
        self.img_adapter = ImageAdapter(model_type)
        self.prompt_adapter = PromptAdapter(model_type)
        self.mask_adapter = MaskAdapter(class_num, model_type, mask_decoder)
        for part, fixed in (
            (self.img_adapter, fix_img_en),
            (self.prompt_adapter, fix_prompt_en),
            (self.mask_adapter.sam_mask_decoder, fix_mask_de),
        ):
            part.requires_grad_(not fixed)

    @property
    def img_size(self) -> int:
        """Side in px of the square pictures that it sees."""
        return self.architecture.image_size

    def forward(self, x: Tensor, hq_token_only: bool = False) -> tuple[Tensor, Tensor]:
        """Find the parts of normalised pictures.

        Args:
            x: (B, 3, S, S), as `normalised` gives them.
            hq_token_only: of SAM-HQ, whether its HQ part speaks alone.

        Returns:
            Logits (B, classes, S / 4, S / 4) for patches of 16 px; a part is where they are above
            0. And estimated IoUs (B, 4), which training does not teach.
        """
        features, early = self.img_adapter(x)
        dense, positions = self.prompt_adapter()
        return self.mask_adapter(features, early, dense, positions, hq_token_only)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the image encoder's blocks in the backward pass."""
        self.img_adapter.sam_img_encoder.recompute = True

    def taught(self) -> list[nn.Parameter]:
        """The parameters that are not frozen and that masks depend on.

        Masks leave out the estimate of IoUs, and what encodes prompts that nobody gives.
        """
        unread = (
            "mask_adapter.sam_mask_decoder.iou_prediction_head.",
            "prompt_adapter.sam_prompt_encoder.point_embeddings.",
            "prompt_adapter.sam_prompt_encoder.not_a_point_embed.",
            "prompt_adapter.sam_prompt_encoder.mask_downscaling.",
        )
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and not name.startswith(unread)
        ]


PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Of ImageNet's pictures, in levels: what SAM was trained with."""


def normalised(pictures: Tensor) -> Tensor:
    """(B, 3, S, S) uint8 RGB -> float32, as `SemanticSam` takes it."""
    # By numbers of the host, not tensors, which would have to be copied to the device.
    planes = [
        (pictures[:, channel].float() - mean) / std
        for channel, (mean, std) in enumerate(zip(PIXEL_MEAN, PIXEL_STD, strict=True))
    ]
    return torch.stack(planes, dim=1)


def _dot(heads: Tensor, features: Tensor) -> Tensor:
    """(B, n, c) times (B, c, h, w): (B, n, h, w)."""
    return (heads @ features.flatten(2)).unflatten(2, features.shape[2:])
