"""Draw batches of images with a model that predicts the noise of a discrete chain."""

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from factory.diffusion.chain import ancestral, chain_alphas, chain_steps, ddim, multistep
from factory.diffusion.ddpm import DdpmPipeline
from factory.diffusion.guidance import GuidedNetwork
from factory.diffusion.pixel_sampler import Batch, PixelSampler, load_pipeline
from factory.spec import DdpmGenerator, Reconstruction


class DdpmSampler(PixelSampler):
    """A loaded DDPM that draws batches of images along its own chain.

    A reconstruction starts at sqrt(abar) x_0 + sqrt(1 - abar) n, where abar is that of step t_re of
    the `num_inference_steps`, counted from the clean end: one draw, equal in law to the step by
    step corruption of yamaguchi2024's Algorithm 1.
    """

    def __init__(
        self,
        folder: str,
        generator: DdpmGenerator,
        device: torch.device,
        reconstruct: Reconstruction | None = None,
    ) -> None:
        """Load the model from `folder` (diffusers' format) and place it on `device`.

        Raises:
            SpecError: if the source of the reconstruction cannot be read.
            ValueError: if there are more steps than the chain has.
        """
        pipeline = load_pipeline(DdpmPipeline, folder)
        self._chain: DDPMScheduler = pipeline.scheduler
        self._generator = generator
        self._alphas = chain_alphas(self._chain)
        self._steps = chain_steps(
            self._alphas, generator.num_inference_steps or len(self._alphas) - 1
        )
        super().__init__(
            pipeline,
            generator,
            device,
            num_steps=len(self._steps) - 1,
            reconstruct=reconstruct,
        )
        self._guided = GuidedNetwork(
            self._network, null_label=len(self.class_names), scale=generator.scale
        )

    def _solve(self, batch: Batch) -> torch.Tensor:
        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self._guided(x, t, batch.labels).float()

        rows, alphas = batch.rows(self._steps), self._alphas
        match self._generator.scheduler:
            case "ddpm":
                x, variance = self._start(batch), self._generator.variance
                return ancestral(predict, x, rows, alphas, variance=variance, streams=batch.streams)
            case "ddim":
                return ddim(predict, self._start(batch), rows, alphas)
            case "dpm_solver_multistep":
                kind = DPMSolverMultistepScheduler
                return multistep(kind, self._chain, predict, batch.noise, self._steps)
            case "unipc":
                kind = UniPCMultistepScheduler
                return multistep(kind, self._chain, predict, batch.noise, self._steps)

    def _start(self, batch: Batch) -> torch.Tensor:
        signal = self._alphas[batch.rows(self._steps)[:, 0]]
        # Pure noise has nothing of the image, though a short chain's last step has a little.
        signal = torch.where(batch.t_re < self._num_steps, signal, 0)
        return batch.start(signal.sqrt(), (1 - signal).sqrt())
