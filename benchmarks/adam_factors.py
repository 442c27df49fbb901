"""Prints how factors act on one parameter under Adam, by application and by kind of moments.

    python benchmarks/adam_factors.py [--updates 400000] [--seed 1]

Two tasks pull the parameter in opposite directions: their gradients are +1 and -1, each with normal
noise of variance 1. They are drawn equally often, with the factors 1.5 and 0.5. The drift is the
mean update per step, in learning rates. Plain SGD that is normalized by the root mean square of
the gradients, sqrt(2), shows the effect that the factors are meant to have: -0.5 / sqrt(2).
"""

import argparse

import numpy as np

APPLICATIONS = ("learning_rate", "gradient")
MOMENTS = ("shared", "scaled", "per_task")  # As in `keras_mtl.Adam`.
FACTORS = (1.5, 0.5)
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-9


def drift(application: str, moments: str, updates: int, seed: int) -> float:
    """Returns the mean update of the parameter, in learning rates.

    Args:
        application: what the factor multiplies, `learning_rate` or `gradient`.
        moments: a member of `MOMENTS`.
        updates: number of updates.
        seed: seed of the draws and the noise.
    """
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 2, updates)
    gradients = np.where(tasks == 0, 1.0, -1.0) + rng.normal(size=updates)
    sets = len(FACTORS) if moments == "per_task" else 1
    first, second, counts = np.zeros(sets), np.zeros(sets), np.zeros(sets)
    total = 0.0
    for task, gradient in zip(tasks.tolist(), gradients.tolist(), strict=True):
        row, factor = task % sets, FACTORS[task]
        if application == "gradient":
            gradient *= factor
            factor = 1.0
        to_first = factor if moments == "scaled" else 1.0
        first[row] = BETA_1 * first[row] + (1 - BETA_1) * to_first * gradient
        second[row] = BETA_2 * second[row] + (1 - BETA_2) * gradient**2
        counts[row] += 1
        update = first[row] / (1 - BETA_1 ** counts[row])
        update /= np.sqrt(second[row] / (1 - BETA_2 ** counts[row])) + EPSILON
        total -= update if moments == "scaled" else factor * update
    return total / updates


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--updates", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print("| |", " | ".join(f"`{moments}`" for moments in MOMENTS), "|")
    print("|", " | ".join("---" for _ in range(len(MOMENTS) + 1)), "|")
    for application in APPLICATIONS:
        cells = [f"{drift(application, m, args.updates, args.seed):.3f}" for m in MOMENTS]
        print("|", " | ".join([f"{application} × w", *cells]), "|")
    print(f"plain SGD: {-(FACTORS[0] - FACTORS[1]) / 2 / np.sqrt(2):.3f}")


if __name__ == "__main__":
    main()
