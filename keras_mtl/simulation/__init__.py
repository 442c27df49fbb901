"""Simulates schedules on learning curves, to choose their parameters before training.

The package uses only NumPy. `simulate` plays one schedule; `PowerLawCurves` and `RecordedCurves`
model how tasks learn.
"""

from keras_mtl.simulation.curves import Curves, CurveSettings, PowerLawCurves
from keras_mtl.simulation.player import PlaySettings, Simulation, mean_probabilities, simulate
from keras_mtl.simulation.recorded import RecordedCurves

__all__ = [
    "CurveSettings",
    "Curves",
    "PlaySettings",
    "PowerLawCurves",
    "RecordedCurves",
    "Simulation",
    "mean_probabilities",
    "simulate",
]
