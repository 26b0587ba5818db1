"""Draw batches of images with an EDM model."""

import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

from factory.diffusion.edm import SIGMA_DATA, EdmPipeline, denoise
from factory.diffusion.guidance import GuidedNetwork
from factory.diffusion.pixel_sampler import Batch, PixelSampler, load_pipeline
from factory.diffusion.samplers import Loop, euler, heun, karras_sigmas
from factory.spec import EdmGenerator, Reconstruction


class EdmSampler(PixelSampler):
    """A loaded EDM model that draws batches of images.

    A reconstruction starts at x_0 + sigma n, where sigma is the noise level t_re of the
    `num_inference_steps`, counted from the clean end: one draw, equal in law to the step by step
    corruption of yamaguchi2024's Algorithm 1 (which is written for DDPM, and run with EDM).
    """

    def __init__(
        self,
        folder: str,
        generator: EdmGenerator,
        device: torch.device,
        reconstruct: Reconstruction | None = None,
    ) -> None:
        """Load the model from `folder` (diffusers' format) and place it on `device`.

        Raises:
            SpecError: if the source of the reconstruction cannot be read.
        """
        super().__init__(
            load_pipeline(EdmPipeline, folder),
            generator,
            device,
            num_steps=generator.num_inference_steps,
            reconstruct=reconstruct,
        )
        self._generator = generator
        self._guided = GuidedNetwork(
            self._network,
            null_label=len(self.class_names),
            scale=generator.scale,
            interval=_as_told(generator.guidance_interval),
        )

    def _solve(self, batch: Batch) -> torch.Tensor:
        match self._generator.scheduler:
            case "heun":
                return self._loop(heun, batch)
            case "euler":
                return self._loop(euler, batch)
            case "edm_euler":
                return self._run(EDMEulerScheduler, batch)
            case "edm_dpm_solver_multistep":
                return self._run(EDMDPMSolverMultistepScheduler, batch)

    def _loop(self, loop: Loop, batch: Batch) -> torch.Tensor:
        spec = self._generator
        levels = karras_sigmas(
            spec.num_inference_steps,
            sigma_min=spec.sigma_min,
            sigma_max=spec.sigma_max,
            rho=spec.rho,
        )
        sigmas = batch.rows(levels)
        x = batch.start(batch.t_re < spec.num_inference_steps, sigmas[:, 0])
        return loop(
            lambda x, sigma: denoise(self._guided, x, sigma, batch.labels),
            x,
            sigmas.to(x.device),
        )

    def _run(
        self,
        kind: type[EDMEulerScheduler] | type[EDMDPMSolverMultistepScheduler],
        batch: Batch,
    ) -> torch.Tensor:
        spec = self._generator
        # A scheduler counts its steps: each batch gets a new one.
        scheduler = kind(
            sigma_min=spec.sigma_min,
            sigma_max=spec.sigma_max,
            sigma_data=SIGMA_DATA,
            rho=spec.rho,
        )
        x = batch.noise * scheduler.init_noise_sigma
        scheduler.set_timesteps(spec.num_inference_steps, device=x.device)
        for c_noise in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, c_noise)
            raw = self._guided(scaled, c_noise.expand(len(x)), batch.labels)
            x = scheduler.step(raw.float(), c_noise, x, return_dict=False)[0]
        return x


def _as_told(interval: tuple[float, float] | None) -> tuple[float, float]:
    """An interval of sigma as EDM's network is told it: c_noise = log(sigma) / 4."""
    low, high = (0.0, torch.inf) if interval is None else interval
    # c_noise is a float32 logarithm: a bound that names a level must hold it.
    bounds = torch.tensor([low * (1 - 1e-5), high * (1 + 1e-5)], dtype=torch.float64)
    low, high = (bounds.log() / 4).tolist()
    return low, high
