"""What `keras-mtl inspect` suggests for the schedule, once the sizes of the tasks are known."""

from keras_mtl.cli.printing import print_table
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.errors import KerasMtlError

PROPOSE_PAGE = "docs/how-to/propose_weights.md"


def print_advice(config: ExperimentConfig, model_dir: str | None) -> None:
    """Prints the expected passes over the data of each task, and what the evidence suggests.

    A configuration that cannot be trained gets no advice: `inspect` reports its problems.

    Args:
        config: the configuration; its data is prepared.
        model_dir: directory of the run, if one is given.
    """
    from keras_mtl.simulation import advice
    from keras_mtl.simulation.experiment import experiment_of

    try:
        experiment = experiment_of(config, model_dir)
        found = advice.exposure(experiment)
    except KerasMtlError:
        return
    print(
        f"expected passes over the data in {experiment.steps:,} steps of {experiment.schedule[0]}:"
    )
    print_table(*advice.exposure_table(experiment, found))
    if len(experiment.tasks) > 1:
        for line in advice.advice(experiment, found):
            print(f"advice: {line}")
        print(
            f"to tune the weight of each task with small runs: keras-mtl propose ({PROPOSE_PAGE})"
        )
        print(f"why: {advice.PAGE}")
