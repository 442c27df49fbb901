"""The advice of `inspect`: expected passes over the data, and what follows from them."""

import pathlib
import types

import numpy as np
import pytest

from keras_mtl import schedules
from keras_mtl.cli import inspect
from keras_mtl.cli.inspect_advice import PROPOSE_PAGE, print_advice
from keras_mtl.cli.main import main
from keras_mtl.configuration import files
from keras_mtl.simulation.advice import (
    EVIDENCE_PAGE,
    USELESS_PASSES,
    WORN_PASSES,
    advice,
    exposure,
    exposure_table,
    suggested_temperature,
)
from keras_mtl.simulation.experiment import experiment_of

DEMO = pathlib.Path(__file__).parents[2] / "configs/demo.yaml"


def configured(*overrides):
    return files.load_experiment(None, [DEMO], overrides)


def experiment(schedule, parameters="{}", steps=1000, **more):
    fields = {"trainer.schedule.name": schedule, "trainer.train_steps": steps, **more}
    given = ",".join(f"{field}={value}" for field, value in fields.items())
    return experiment_of(configured(given, f"trainer.schedule.parameters={parameters}"))


def expected_passes(made, temperature):
    schedule = schedules.create("temperature", made.tasks, temperature=temperature)
    given = schedule.probabilities(0, schedule.init())
    sizes = np.array([task.size for task in made.tasks])
    return made.steps * made.batches_per_step * given * made.rows / sizes


def test_passes_are_what_the_probabilities_imply():
    made = experiment("temperature", "{temperature: 3}")
    found = exposure(made)
    passes = expected_passes(made, 3)
    np.testing.assert_allclose(found.passes, passes, rtol=1e-6)
    # They are spread evenly over the steps.
    np.testing.assert_allclose(
        found.worn_at,
        np.where(passes >= WORN_PASSES, 1000 * WORN_PASSES / passes, np.inf),
        rtol=0.01,
    )
    # Twice the batches of an update, half the steps.
    twice = exposure(
        experiment(
            "temperature",
            "{temperature: 3}",
            500,
            **{"trainer.optimizer.gradient_accumulation_steps": 2},
        )
    )
    np.testing.assert_allclose(twice.passes, passes, rtol=1e-6)
    np.testing.assert_allclose(twice.worn_at, found.worn_at / 2, rtol=0.01)


def test_a_schedule_over_time_and_a_limit_are_followed():
    even_first = exposure(experiment("cooldown", "{switch_step: 500}"))
    always = exposure(experiment("temperature", "{temperature: 5}"))
    assert even_first.passes[-1] < 0.6 * always.passes[-1]
    limited = exposure(experiment("uniform", **{"trainer.schedule.max_epochs": 7}))
    assert limited.passes.max() == pytest.approx(7, rel=0.01)


def test_the_suggested_temperature_is_the_largest_that_repeats_no_task_too_often():
    for steps in (100, 1000, 3000, 5000, 20_000, 10**6):
        made = experiment("proportional", steps=steps)
        fitting = [
            temperature
            for temperature in (1, 1.5, 2, 3, 5)
            if expected_passes(made, temperature).max() <= USELESS_PASSES
        ]
        assert suggested_temperature(made) == (max(fitting) if fitting else None)


def test_advice_names_the_tasks_that_will_overfit():
    made = experiment("uniform", steps=3000)
    found = exposure(made)
    lines = advice(made, found)
    repeated = [
        task.name for task, count in zip(made.tasks, found.passes, strict=True) if count > 40
    ]
    assert lines[0].startswith(f"{', '.join(repeated[::-1])} will be read more than 40 times")
    assert "Watch the dev scores" in lines[0]
    short = experiment("temperature", "{temperature: 5}", steps=10)
    assert advice(short, exposure(short)) == [
        "a tuned temperature is the schedule to beat: try 1 to 5, which read no task more than 40 "
        "times, and compare dev scores",
        "the tasks are very unequal: also compare a piecewise schedule with a higher temperature, "
        "such as 5, in the last quarter of the training (docs/explanation/evidence.md)",
    ]
    assert (DEMO.parents[1] / EVIDENCE_PAGE).is_file()
    later = experiment(
        "dynamic_temperature", "{steps_per_epoch: 2, initial: 1, final: 5, epochs: 5}", steps=10
    )
    assert not any("last quarter" in line for line in advice(later, exposure(later)))
    long = experiment("cooldown", "{switch_step: 9}", steps=10**6)
    assert "train for fewer steps" in advice(long, exposure(long))[1]


def test_inspect_prints_the_table_and_the_page(capsys):
    print_advice(configured("trainer.schedule.name=uniform"), None)
    shown = capsys.readouterr().out
    assert shown.startswith("expected passes over the data in 1,000 steps of uniform:\n")
    header, rows = exposure_table(made := experiment("uniform"), exposure(made))
    assert header[0] in shown
    for row in rows:
        assert " ".join(row) in " ".join(shown.split())
    (page,) = [line.split()[-1] for line in shown.splitlines() if line.startswith("why: ")]
    assert (DEMO.parents[1] / page).is_file()
    assert "keras-mtl propose" in shown
    assert (DEMO.parents[1] / PROPOSE_PAGE).is_file()
    # No advice for a schedule that cannot be made; `inspect` reports why.
    print_advice(configured("trainer.schedule.name=cooldown"), None)
    assert capsys.readouterr().out == ""


def test_inspect_gives_advice_only_if_the_data_is_prepared(monkeypatch, capsys):
    class Printed(Exception):
        pass

    def stop(*unused):
        raise Printed

    monkeypatch.setattr(inspect, "print_samples", stop)
    words = ["inspect", "--config_file", str(DEMO)]
    tasks = [
        types.SimpleNamespace(name=pair.name, train_size=9) for pair in configured().task.pairs
    ]
    for prepared in (None, types.SimpleNamespace(tasks=tasks)):
        monkeypatch.setattr(inspect, "_load_prepared", lambda path, found=prepared: found)
        with pytest.raises(Printed):
            main([*words, "--model_dir", "absent"])
        assert ("expected passes" in capsys.readouterr().out) == (prepared is not None)
