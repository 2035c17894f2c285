"""Training of the autoencoders with losses of perception and a discriminator."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.models import TransparentVAE
from seethrough.models.discriminators import (
    PatchDiscriminator,
    UNetDiscriminator,
    adaptive_weight,
    convolution_gradient_norms,
    discriminator_loss,
)
from seethrough.models.kepler import KeplerQuantizer, codes_used
from seethrough.models.perceptual_networks import PictureDistance, convnext_tiny, lpips
from seethrough.recipe import Source
from seethrough.recipes.perceptual_vae import PerceptualVaeTrain
from seethrough.tasks.latent_noise import NoisyLatents
from seethrough.tasks.latents import network_input
from seethrough.tasks.task import Batch, Loss, ParameterGroup, StageContext
from seethrough.tasks.transfer import on_device
from seethrough.tasks.transparent_vae import Autoencoders, TransparentVaeTask
from seethrough.tasks.transparent_vae_losses import (
    backgrounds,
    compared,
    composite,
    judgement_weights,
    pixel_terms,
    reconstruction_terms,
    total,
    weighted,
)


class JudgedAutoencoders(Autoencoders):
    """Both networks and a codebook, with what a discriminator's weight is computed from."""

    def __init__(
        self,
        vae: AutoencoderKL,
        transparent_vae: TransparentVAE,
        quantizer: KeplerQuantizer | None,
        decode_layers: bool,
    ) -> None:
        super().__init__(vae, transparent_vae)
        self.quantizer = quantizer
        self.decode_layers = decode_layers

    @property
    def last_layer(self) -> nn.Conv2d:
        """The last convolution in front of what is compared."""
        if self.decode_layers:
            return self.transparent_vae.decoder.model.conv_out
        return self.vae.decoder.conv_out

    def forward(
        self,
        argb: Tensor,
        noise: Tensor,
        with_offset: bool,
        offset_rows: Tensor | None = None,
        change: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """As `Autoencoders`; `offset_rows` (N,) bool have the offset in the noise's place.

        Decoders get latents times the first of `change`, plus the second, each (N, ...).

        Also returns `last_input`, (N, C, H, W), what the last layer took; where `picture` may not
        be it, beside `offset_picture` the `plain_picture` that the posterior's noise alone gives;
        with a codebook `codes` (N, K), `kepler` and `kepler_prior` (N,); no `argb` unless layers
        are decoded.
        """
        mean, std = self.transparent_vae.posterior(self.vae, argb)
        result = {"mean": mean, "std": std}
        if offset_rows is not None or with_offset:
            offset = self.transparent_vae.offset(argb)
            if with_offset:
                result["offset_picture"] = self._picture(mean + std * offset)
            if with_offset and (offset_rows is not None or change is not None):
                with torch.no_grad():
                    result["plain_picture"] = self._picture(mean + std * noise)
            if offset_rows is not None:
                noise = torch.where(offset_rows[:, None, None, None], offset, noise)
        latents = mean + std * noise
        given = latents if change is None else latents * change[0] + change[1]
        with _inputs_of(self.last_layer) as inputs:
            picture = self._picture(given)
            if self.decode_layers:
                decoder = self.transparent_vae.decoder.model
                result["argb"] = decoder(picture * 0.5 + 0.5, given)
        result |= {"picture": picture, "last_input": inputs[-1].detach()}
        if self.quantizer is not None:
            found = self.quantizer(latents)
            result |= {
                "kepler": found.loss,
                "kepler_prior": found.prior_loss,
                "codes": found.codes,
            }
        return result


class PerceptualVaeTask(TransparentVaeTask):
    """Reconstruction as it is seen; a discriminator where it has a weight."""

    stage: PerceptualVaeTrain

    def __init__(self, stage: PerceptualVaeTrain, context: StageContext) -> None:
        super().__init__(stage, context)
        self.distances: dict[str, PictureDistance] = {}
        if stage.loss.lpips > 0:
            self.distances["lpips"] = lpips(self._file(stage.loss.vgg16))
        if stage.loss.convnext > 0:
            self.distances["convnext"] = convnext_tiny(self._file(stage.loss.convnext_tiny))
        self.discriminator: nn.Module | None = None
        self.latent_noise: NoisyLatents | None = None

    def _file(self, source: Source | None) -> Any:
        return None if source is None else self.context.path(source)

    def build(self) -> JudgedAutoencoders:
        networks, section = super().build(), self.stage.kepler
        assert isinstance(networks, Autoencoders)
        quantizer = None
        if section.weight > 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.stage.seed)
                quantizer = KeplerQuantizer(
                    self.stage.model.latent_channels, section.codes, section.groups, section.beta
                )
        if self.stage.latent_noise.probability > 0:
            scale = float(networks.vae.config["scaling_factor"])
            self.latent_noise = NoisyLatents(self.stage.latent_noise, scale)
        return JudgedAutoencoders(
            networks.vae, networks.transparent_vae, quantizer, self._decodes_layers()
        )

    def _decodes_layers(self) -> bool:
        return self.stage.model.learn != "vae_decoder"

    def prepare(self) -> None:
        for distance in self.distances.values():
            distance.to(self.context.device)

    def uses_offset(self) -> bool:
        return super().uses_offset() or self.stage.loss.offset_probability > 0

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        """As without perception, and the codebook."""
        (group,) = super().parameter_groups(model, lr)
        assert isinstance(model, JudgedAutoencoders)
        if model.quantizer is None or self.stage.model.learn == "all":
            return [group]
        codebook = list(model.quantizer.parameters())
        return [group, ParameterGroup("codebook", codebook, lr)]

    def opponent(self) -> nn.Module | None:
        section = self.stage.adversarial
        if section.weight == 0:
            return None
        channels = 4 if self._decodes_layers() else 3
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed)
            if section.discriminator == "nlayer":
                network = PatchDiscriminator(channels, section.channels, section.layers)
            else:
                network = UNetDiscriminator(channels, section.channels)
        self.discriminator = network
        return network

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        argb, draws = network_input(batch["argb"]), batch["draw"]
        weights = self.stage.loss
        noise, rows = self._noise(draws, argb), self._offset_rows(draws, argb.device)
        change = None
        if self.latent_noise is not None:
            change = self.latent_noise.change(draws, noise.shape[1:], noise.device)
        out: dict[str, Tensor] = model(argb, noise, weights.identity > 0, rows, change)
        found = {key: value.float() for key, value in out.items() if key != "codes"}
        pictures, targets = compared(found, argb)
        terms = weighted(
            reconstruction_terms(found, argb) | self._picture_terms(pictures, targets, draws),
            weights,
        )
        loss = total(terms, weights)
        logged = {name: term.detach() for name, term in terms.items()}
        if self.discriminator is not None and draws[0].step >= self.stage.adversarial.start_step:
            logits = self._judged(pictures)
            doubt = -(logits * self._shares(targets, logits)).mean((1, 2, 3))
            decoded = out["argb"] if self._decodes_layers() else out["picture"]
            share = self._adaptive_weight(loss, doubt, decoded, out["last_input"], model)
            loss = loss + (share * doubt).sum()
            logged |= {"adversarial": doubt.detach().sum(), "adversarial_weight": share.sum()}
        if "codes" in out:
            loss = loss + self._codebook_loss(out, logged)
        return Loss(loss, logged, shown=(targets, pictures.detach()))

    def _offset_rows(self, draws: list[Draw], device: torch.device) -> Tensor | None:
        probability = self.stage.loss.offset_probability
        if probability == 0:
            return None
        rows = [draw.numpy("offset").random() < probability for draw in draws]
        return on_device(torch.tensor(rows), device)

    def _picture_terms(
        self, pictures: Tensor, targets: Tensor, draws: list[Draw]
    ) -> dict[str, Tensor]:
        size = (targets.shape[-2], targets.shape[-1])
        background = backgrounds(draws, self.stage.loss.backgrounds, size, targets.device)
        terms = pixel_terms(pictures, targets, background, self.stage.loss)
        shown, wanted = composite(pictures, background), composite(targets, background)
        for name, distance in self.distances.items():
            terms[name] = distance(shown, wanted).float()
        return terms

    def _judged(self, pictures: Tensor) -> Tensor:
        """The discriminator's logits, (N, 1, h, w) float32, without gradients of its weights."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_(False)
        logits = self.discriminator(pictures).float()
        self.discriminator.requires_grad_(True)
        return logits

    def _shares(self, targets: Tensor, logits: Tensor) -> Tensor | float:
        return judgement_weights(targets, logits, self.stage.loss.alpha_reweight)

    def _adaptive_weight(
        self, loss: Tensor, doubt: Tensor, decoded: Tensor, last_input: Tensor, model: nn.Module
    ) -> Tensor:
        """What the discriminator's judgement of each sample is multiplied with, (N,).

        A sample's own gradients of the last layer are compared, so that the ratio doesn't depend on
        which samples share a micro-batch. No sample's output depends on another's.
        """
        networks: Any = getattr(model, "module", model)
        norms = []
        for value in (loss, doubt.sum()):
            (gradient,) = torch.autograd.grad(value, decoded, retain_graph=True)
            with torch.autocast(gradient.device.type, enabled=False):
                norms.append(
                    convolution_gradient_norms(
                        last_input.float(), gradient.float(), networks.last_layer
                    )
                )
        return adaptive_weight(norms[0], norms[1], self.stage.adversarial.weight)

    def _codebook_loss(self, out: dict[str, Tensor], logged: dict[str, Tensor]) -> Tensor:
        section = self.stage.kepler
        distance, prior = out["kepler"].float().sum(), out["kepler_prior"].float().sum()
        used = codes_used(out["codes"], section.codes)
        logged |= {
            "kepler": distance.detach(),
            "kepler_prior": prior.detach(),
            "codes_used": used * len(out["codes"]),
        }
        return section.weight * distance + section.prior_weight * prior

    def opponent_loss(self, opponent: nn.Module, batch: Batch, first: Loss) -> Loss:
        del batch
        true, decoded = opponent(torch.cat(first.shown)).float().chunk(2)
        shares = self._shares(first.shown[0], true)
        loss = discriminator_loss(true, decoded, self.stage.adversarial.loss, shares).sum()
        terms = {
            "logits_true": true.detach().mean((1, 2, 3)).sum(),
            "logits_decoded": decoded.detach().mean((1, 2, 3)).sum(),
        }
        return Loss(loss, terms)

    def measured(self, model: Autoencoders, item: Batch) -> dict[str, float]:
        """Also the distances that are trained with, over the item's background, and `identity_mae`,
        how much the offset changes the autoencoder's own picture, in [0, 1]: LayerDiffuse's test
        that transparency hides in latents without harming them."""
        layer = self._input(item["layer"])
        rgba = self._decode(model, layer)
        size = (layer.shape[-2], layer.shape[-1])
        background = backgrounds([item["draw"]], self.stage.loss.backgrounds, size, layer.device)
        shown = composite(rgba[:, [3, 0, 1, 2]].float(), background)
        wanted = composite(layer, background)
        pictures = [
            model.vae.decode(
                model.transparent_vae.encode(model.vae, layer, use_offset=use),  # pyright: ignore[reportArgumentType]
                return_dict=False,
            )[0]
            for use in (False, True)
        ]
        return {
            **super().measured(model, item),
            "composite_mae": float((shown - wanted).abs().mean()),
            **{name: float(distance(shown, wanted)) for name, distance in self.distances.items()},
            "identity_mae": float((pictures[1] - pictures[0]).abs().mean()) / 2,
        }


@contextlib.contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what a layer takes."""
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, values: inputs.append(values[0]))
    try:
        yield inputs
    finally:
        handle.remove()
