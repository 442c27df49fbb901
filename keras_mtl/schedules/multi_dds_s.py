"""MultiDDS-S: favors tasks whose training gradient helps the dev sets of all tasks."""

from keras_mtl.schedules.measured import ActorSchedule
from keras_mtl.schedules.registry import register


@register
class MultiDdsS(ActorSchedule):
    """Differentiable data selection: the reward is the cosine of training and dev gradients.

    p = softmax(ψ) as in `ActorSchedule`, with R_i = mean over j of cos(∇L_dev,j, ∇L_train,i), where
    each gradient is that of a batch of `pairs` pairs. It needs dev pairs of every task, and a
    measurement takes two gradients for each task.

    State: see `ActorSchedule`.

    Args:
        tasks: the tasks.
        prior: the first p: `none` (uniform), `proportional` or `temperature`, with
            prior_temperature.
        actor_steps: number of steps of Adam after a measurement, >= 1.
        learning_rate: learning rate of Adam, > 0.
        **shared: pairs (of training and of dev set of each task), interval, prior_temperature, ema,
            max_change, floor: see `ActorSchedule`. ema smooths R.

    Reference: Wang, Tsvetkov, Neubig 2020, "Balancing Training for Multilingual Neural Machine
    Translation", arXiv 2004.06748. Reward, Adam on ψ, interval, steps and learning rate are those
    of the authors' code (github.com/cindyxinyiwang/multiDDS: `update_language_sampler_multilin`
    of fairseq/trainer.py, and job_scripts). Dropout is off in keras_mtl's gradients.
    """

    name = "multi_dds_s"
    quantity = "alignment"
