"""Quantization-aware training: a model learns with the rounding that int8 will cause.

| module | contents |
|---|---|
| `int8` | the engine's int8 arithmetic in TensorFlow, with gradients |
| `clipping` | schedules of clipping |
| `quantizer` | `Quantizer`, which quantizes the inputs and weights of a layer |
| `construction` | which layers of a model get a quantizer |
| `ranges` | ranges of values: measured by a forward pass, updated after each step |
"""
