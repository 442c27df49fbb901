"""What `keras-mtl inspect` says of tasks other than translation and of subword sampling."""

from keras_mtl.configuration.other_tasks import DENOISING, MASS, NoiseConfig
from keras_mtl.configuration.schema import ExperimentConfig


def task_lines(config: ExperimentConfig) -> list[str]:
    """Returns a line for the noise of each denoising task, and one for subword sampling."""
    lines = [
        f"noise of {pair.name}: {_noise(pair.noise)}"
        for pair in config.task.pairs
        if pair.kind == DENOISING
    ]
    sampling = config.task.data.subword_sampling
    if sampling.enabled:
        sides = "source and target" if sampling.side == "both" else f"the {sampling.side}"
        lines.append(
            f"subword sampling of {sides}: alpha {sampling.alpha:g} with a unigram vocabulary, or "
            f"dropout {sampling.dropout:g} with BPE; room for {sampling.growth:.0%} more pieces"
        )
    return lines


def _noise(noise: NoiseConfig) -> str:
    if noise.method == MASS:
        return f"a masked span of {noise.span:.0%} of the pieces, which is the target"
    moved = f", moves by at most {noise.shuffle}" if noise.shuffle else ""
    return f"{noise.drop:.0%} of the {noise.unit}s dropped, {noise.blank:.0%} blank{moved}"
