"""A dense layer with weights and activations in int8."""

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.errors import InputError
from keras_mtl.layers.quantized_matmul import check_backend, quantized_matmul


@keras.saving.register_keras_serializable(package="keras_mtl")
class QuantizedDense(keras.layers.Layer):
    """A dense layer with an int8 kernel, whose input rows are quantized on the fly.

    It computes `activation(inputs @ kernel + bias)`. Its variables are those of a
    `keras.layers.Dense` after `quantize("int8")`, in the same order, so `get_weights` of one layer
    fits `set_weights` of the other.

    Results differ from those of Keras only by rounding (Keras adds 1e-7 to the largest magnitude).
    The product plus bias has the same bits on every backend and processor: eagerly, in a graph,
    compiled by XLA, in `fit` and `predict`, and in a SavedModel. It is computed in float32 and
    rounded once to the layer's compute dtype. The bits of an activation depend on the compiler.

    Values that are not finite are never hidden. Such weights are rejected when they are quantized.
    An input row with an infinity or NaN gives NaN in all its outputs, and a column whose
    `kernel_scale` is not finite and positive gives NaN.

    Args:
        units: width of the output, at least 1.
        activation: name or function, as for `keras.layers.Dense`.
        use_bias: whether to add a bias.
        backend: `auto`, `native` or `tf`; see `quantized_matmul`.
        kernel_initializer: initializer of the kernel, which is quantized by column.
        bias_initializer: initializer of the bias.
        **kwargs: arguments of `keras.layers.Layer`. The product is float32 for every dtype.

    Call arguments:
        inputs: float `[..., features]`.

    Returns:
        Float `[..., units]`.

    Raises:
        InputError: an argument is out of range, or the initial kernel is not finite.

    Example:
        ```python
        import keras
        import numpy as np
        from keras_mtl import QuantizedDense

        dense = keras.layers.Dense(4, activation="relu")
        x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
        exact = dense(x)
        layer = QuantizedDense.from_dense(dense)
        np.testing.assert_allclose(layer(x), exact, atol=0.05)
        ```

    Reference: symmetric W8A8 as in Keras 3's `AbsMaxQuantizer`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        backend: str = "auto",
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise InputError(f"units={units!r}: give a whole number of at least 1")
        check_backend(backend)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.backend = backend
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.supports_jit = backend != "native"
        self.bias = None

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        if features is None:
            raise InputError("the last dimension of the inputs must be known")
        values = np.asarray(self.kernel_initializer((features, self.units)), np.float32)
        kernel, scale = quantize_columns(values, self.name)
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                autocast=False,
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features, self.units),
            dtype="int8",
            trainable=False,
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(kernel, dtype),
        )
        # float32 even under a policy of float64: it is part of the int8 product.
        self.kernel_scale = self.add_weight(
            name="kernel_scale",
            shape=(self.units,),
            dtype="float32",
            trainable=False,
            autocast=False,
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(scale, dtype),
        )

    @classmethod
    def from_dense(cls, dense: keras.layers.Dense, **kwargs: Any) -> Self:
        """Converts a built `keras.layers.Dense`, in float or quantized to int8.

        Args:
            dense: the layer.
            **kwargs: arguments of the constructor that override those of `dense`.

        Returns:
            A built layer.

        Raises:
            InputError: the layer is not built, has LoRA weights or another quantization, or its
                weights are not finite.
        """
        if not dense.built:
            raise InputError(f"layer {dense.name!r} has no weights yet; build or call it first")
        if getattr(dense, "lora_enabled", False) or dense.quantization_mode not in (None, "int8"):
            raise InputError(
                f"layer {dense.name!r} has LoRA weights or the quantization "
                f"{dense.quantization_mode!r}; give a plain layer or one after quantize('int8')"
            )
        arguments = {"activation": dense.activation, "use_bias": dense.use_bias, **kwargs}
        layer = cls(dense.units, **arguments)
        if dense.quantization_mode == "int8":
            kernel, scale = np.asarray(dense._kernel), np.asarray(dense.kernel_scale)
            _check_scale(scale, dense.name)
        else:
            kernel, scale = quantize_columns(np.asarray(dense.kernel, np.float32), dense.name)
        layer.kernel_initializer = keras.initializers.get("zeros")  # The kernel is assigned below.
        layer.build((None, kernel.shape[0]))
        layer.kernel_initializer = keras.initializers.get(
            kwargs.get("kernel_initializer", "glorot_uniform")
        )
        layer.kernel.assign(kernel)
        layer.kernel_scale.assign(np.asarray(scale, np.float32))
        if layer.bias is not None:
            layer.bias.assign(dense.bias)
        return layer

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows = tf.cast(inputs, tf.float32)
        kernel = tf.convert_to_tensor(self.kernel)
        outputs = quantized_matmul(rows, kernel, self._column_scales(), self.backend)
        # Round once to the compute dtype, at the end: XLA would drop a rounding before the sum.
        wide = tf.float64 if self.compute_dtype == "float64" else tf.float32
        outputs = tf.cast(outputs, wide)
        if self.bias is not None:
            outputs = outputs + tf.cast(self.bias, wide)
        outputs = tf.cast(outputs, self.compute_dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def _column_scales(self) -> Any:
        """Returns the value of one int8 step in each column, float32 [N]; Keras stores its inverse.

        A scale that no finite kernel can have gives NaN, so a broken column is visible.
        """
        factors = tf.convert_to_tensor(self.kernel_scale)
        valid = tf.math.is_finite(factors) & (factors > 0)
        # With a constant numerator, 1 / x, graphs would contain a Reciprocal, whose bits differ.
        return tf.where(valid, 1.0, float("nan")) / factors

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "backend": self.backend,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def quantize_columns(kernel: np.ndarray, layer_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes a kernel to int8, with one scale for each column.

    Args:
        kernel: float32 [K, N].
        layer_name: name of the layer, for the message.

    Returns:
        int8 [K, N] in [-127, 127], and Keras' `kernel_scale`, float32 [N]: 127 / absmax, or 1 for
        a column of zeros. `values / kernel_scale` restores the kernel to within half a step.

    Raises:
        InputError: a value is NaN or infinite, which int8 cannot represent.
    """
    bad = np.argwhere(~np.isfinite(kernel))
    if len(bad):
        row, column = bad[0].tolist()
        raise InputError(
            f"layer {layer_name!r}: {len(bad)} values of the kernel are not finite, the first is "
            f"{kernel[row, column]} at [{row}, {column}]; int8 cannot hold them. Restore weights "
            "from before training diverged"
        )
    largest = np.abs(kernel).max(axis=0, initial=0.0)
    scale = np.divide(
        np.float32(127), largest, out=np.ones_like(largest), where=largest > 1e-30
    ).astype(np.float32)
    return np.clip(np.rint(kernel * scale), -127, 127).astype(np.int8), scale


def _check_scale(scale: np.ndarray, layer_name: str) -> None:
    """Raises InputError if Keras computed the scale from a kernel that was not finite."""
    bad = np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))
    if len(bad):
        raise InputError(
            f"layer {layer_name!r}: kernel_scale is {scale[bad[0]]} in column {bad[0]}, so its "
            "kernel was not finite when Keras quantized it. Restore weights from before training "
            "diverged"
        )
