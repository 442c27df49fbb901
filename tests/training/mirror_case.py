"""A run in a bucket whose machine is taken away, in one process: its bucket lives there."""

import copy
import json

import pytest
from same_run import assert_same_run
from tiny_run import CONFIG

from keras_mtl.configuration import files
from keras_mtl.configuration.draft import Draft
from keras_mtl.remote_files import RemoteDirectory, cache_directory
from keras_mtl.training.run.loop import run_experiment
from keras_mtl.training.run.mirror import RunMirror
from keras_mtl.training.run.planning import plan_training
from tests import buckets

STEPS = 20


class Killed(BaseException):
    """In place of a machine that is taken away: nothing in the package catches it."""


def change_machines(directory):
    """Compares a run that another machine continues with one that stays."""
    values = copy.deepcopy(CONFIG)
    values["trainer"] |= {"train_steps": STEPS, "checkpoint_interval": 5}
    values["trainer"]["evaluation"] |= {"interval": 6, "lag": 3}
    plan = plan_training(Draft(files.load_experiment(params_override=[json.dumps(values)])))
    run_experiment(plan, directory / "stays", log=lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        url = f"{buckets.new_url(patch, directory / 'first')}/runs/my"
        with pytest.MonkeyPatch.context() as until_killed:
            until_killed.setattr(RunMirror, "upload", dies_at(3, RunMirror.upload))
            with pytest.raises(Killed):
                run_experiment(plan, url, log=lambda line: None)
        patch.setenv("KERAS_MTL_CACHE", str(directory / "second"))
        lines = []
        result = run_experiment(plan, url, log=lines.append)
        assert result.step == STEPS
        assert any("resuming from" in line and line.endswith("at step 10") for line in lines)
        assert "en-fr.train.store" in RemoteDirectory(f"{url}/data").files()
        assert_same_run(directory / "stays", cache_directory(url))


def dies_at(number, upload):
    """Returns an upload whose n-th call does not come: its checkpoint was only local."""
    calls = []

    def upload_or_die(mirror):
        calls.append(None)
        if len(calls) == number:
            raise Killed
        upload(mirror)

    return upload_or_die
