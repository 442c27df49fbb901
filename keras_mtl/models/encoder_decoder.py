"""What all encoder-decoder models share: embeddings, losses, decoding, choice of a decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.configuration.architectures import TRANSFORMER
from keras_mtl.configuration.stack_sharing import BY_STACK
from keras_mtl.errors import InputError
from keras_mtl.layers import Dense, TokenEmbedding
from keras_mtl.layers.dropout import track_state
from keras_mtl.models.adapter_routes import decoder_of, source_rows, target_rows
from keras_mtl.models.arguments import check_length, check_tables
from keras_mtl.models.losses import projected_cross_entropy
from keras_mtl.models.packed_rows import PackedRows
from keras_mtl.models.quantizers import projection_factors
from keras_mtl.models.stack_copies import SOURCE, TARGET, StackCopies
from keras_mtl.quantization.construction import quantized

PAD_ID = 0
BOS_ID = 1

State = dict[str, Any]


class EncoderDecoder(keras.Model):
    """Base class of translation models with an encoder and a decoder, or several copies of them.

    A subclass creates an encoder in `_make_encoder` and a decoder in `_make_decoder`, which have
    the methods of `TransformerEncoder` and `TransformerDecoder`. `keras_mtl.models.Transformer`
    describes how one of several copies is chosen.

    The constructor builds the model.

    Args:
        config: what `get_config` returns: the arguments of the subclass. It has at least
            `vocabulary_size`, `source_vocabulary_size`, `hidden_dim`, `max_length`,
            `tie_embeddings`, `tie_projection`, `sharing`, `decoders`, `copies`, `seed`,
            `logits_chunk` and `adapters`.
        **kwargs: arguments of `keras.Model`.
    """

    architecture = TRANSFORMER
    """Its name in `task.model.architecture`."""

    encoder: Any
    decoders: list[Any]

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._config = config
        self.vocabulary_size = config["vocabulary_size"]
        self.hidden_dim = config["hidden_dim"]
        self.max_length = config["max_length"]
        self.source_vocabulary_size = config["source_vocabulary_size"] or self.vocabulary_size
        self.tie_embeddings = config["tie_embeddings"]
        self.tie_projection = self.tie_embeddings or config["tie_projection"]
        check_tables(self.tie_embeddings, self.vocabulary_size, self.source_vocabulary_size)
        self.sharing = config["sharing"]
        self.adapter_sets = tuple(AdapterSet.of_mapping(each) for each in config["adapters"])
        copies = {} if self.sharing == "full" else config["copies"]
        self.copies = {"decoder": config["decoders"]} if self.sharing == "encoder" else copies
        self.decoder_names = tuple(self.copies.get("decoder", ()))
        self.seed_generator = keras.random.SeedGenerator(config["seed"], name="dropout")
        track_state(self, self.seed_generator, config["seed"])
        self._stacks = StackCopies(self, self.copies)
        self._make_embeddings()
        self.source_positions, self.target_positions = self._position_layers()
        self._make_stacks()
        self.build(None)

    def _make_encoder(self, name: str) -> Any:
        """Creates an encoder; `name` is the name of the layer."""
        raise NotImplementedError

    def _make_decoder(self, name: str, vocabulary_size: int | None) -> Any:
        """Creates a decoder; see `TransformerDecoder` for `vocabulary_size`."""
        raise NotImplementedError

    def _make_stacks(self) -> None:
        """Creates the encoders, the decoders and projections that are not part of a decoder."""
        self.encoder = self._stacks.make("encoder", "encoder", self._make_encoder)
        vocabulary_size = None if self.tie_projection else self.vocabulary_size
        self.projection = None
        if vocabulary_size and self.sharing == BY_STACK:
            self.projection = self._stacks.make("projection", "projection", self._make_projection)
            vocabulary_size = None
        self.decoders = [
            self._make_decoder(f"decoder_{name}" if name else "decoder", vocabulary_size)
            for name in self.decoder_names or ("",)
        ]
        self._stacks.add("decoder", self.decoders)
        # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
        for i, decoder in enumerate(self.decoders):
            setattr(self, f"decoder_{i}", decoder)

    def _make_projection(self, name: str) -> Dense:
        return Dense(self.vocabulary_size, use_bias=False, dtype=self.dtype_policy, name=name)

    def _position_layers(self) -> tuple[keras.layers.Layer | None, keras.layers.Layer | None]:
        """Returns the layers that add positions to the embeddings of source and target."""
        return None, None

    def _make_embeddings(self) -> None:
        policy = self.dtype_policy
        # No implicit Keras mask: the encoder gets its mask explicitly, and the decoder needs none.
        table = {"hidden_dim": self.hidden_dim, "mask_id": None, "dtype": policy}

        def make(stack: str, size: int) -> TokenEmbedding:
            name = "embedding" if stack == "embeddings" else stack
            return self._stacks.make(
                stack, name, lambda own: TokenEmbedding(size, **table, name=own)
            )

        if self.tie_embeddings:
            self.source_embedding = make("embeddings", self.vocabulary_size)
            self.target_embedding = self.source_embedding
        else:
            self.source_embedding = make("source_embedding", self.source_vocabulary_size)
            self.target_embedding = make("target_embedding", self.vocabulary_size)

    def build(self, input_shape: Any = None) -> None:
        if self.built:  # type: ignore[has-type]  # keras.Model is not typed
            return
        shape = (None, None, self.hidden_dim)
        with quantized(self._config.get("quantization")):
            for table in ("embeddings", "source_embedding", "target_embedding"):
                self._stacks.build(table)
            for positions in (self.source_positions, self.target_positions):
                if positions is not None:
                    positions.build(shape)
            self._stacks.build("encoder", shape)
            self._stacks.build("projection", shape)
            self._stacks.build("decoder", shape, shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self._decode(
            inputs,
            training,
            lambda *args, **options: self._logits(self.decoders[0](*args, **options)),
        )

    def token_losses(
        self,
        inputs: dict[str, tf.Tensor],
        smoothing: float = 0.0,
        training: bool = False,
        drop_padding: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the loss of predicting `inputs["target"]`, without storing logits.

        Args:
            inputs: as in `call`.
            smoothing: label smoothing ε in [0, 1).
            training: whether dropout is active.
            drop_padding: skip padding in the projection; XLA cannot compile this.

        Returns:
            Three float32 `[batch]`: the loss summed over target tokens, the number of target
            tokens, and the negative log-likelihood in nats summed over target tokens; see
            `keras_mtl.models.projected_cross_entropy`.
            If rows hold several pairs, the three are not summed: float32 `[batch, time]`.

        Raises:
            InputError: a source or target is longer than `max_length`.
            ValueError: `smoothing` is outside [0, 1).
        """

        def losses(*args: Any, **kwargs: Any) -> Any:
            decoder = self.decoders[0]
            states = decoder(*args, **kwargs, project=False)
            layer = self.projection or decoder.projection or self.target_embedding
            states, table = projection_factors(layer, states, training)
            return projected_cross_entropy(
                states,
                table,
                inputs["target"],
                smoothing,
                PAD_ID,
                drop_padding,
                by_token=PackedRows.of(inputs) is not None,
                chunk=self._config["logits_chunk"],
            )

        return self._decode(inputs, training, losses)

    def _decode(
        self, inputs: dict[str, tf.Tensor], training: bool, function: Callable[..., Any]
    ) -> Any:
        """Runs the encoder, and calls `function` with the arguments of the first decoder.

        During the call, the decoder has the weights of the decoder that the batch uses.
        """
        target = inputs["target"]
        packed, route = PackedRows.of(inputs), inputs.get("decoder")
        memory = self.encode(inputs["source"], training, packed, route)
        rows = target_rows(self.adapter_sets, route, packed)
        options = {"memory_mask": memory["mask"]}
        if packed is None:
            check_length(target, "target", self.max_length)
            batch = target.shape[0] or tf.shape(target)[0]
            start = tf.fill([batch, 1], tf.cast(BOS_ID, target.dtype))
            shifted = tf.concat([start, target[:, :-1]], axis=1)
        else:
            shifted = packed.shift(target, BOS_ID)
            options = {"memory_mask": packed.memory_mask, "mask": packed.target_mask}
            options["positions"] = packed.target_positions

        def decode() -> Any:
            x = self._embed("target", shifted, positions=options.get("positions"))
            return function(x, memory["memory"], **options, training=training, rows=rows)

        return self._with_weights(TARGET, self._select(TARGET, route), decode)

    def encode(
        self,
        source: tf.Tensor,
        training: bool = False,
        packed: PackedRows | None = None,
        decoder: tf.Tensor | None = None,
    ) -> State:
        """Runs the encoder.

        Args:
            source: int32 `[batch, source_time]`, padded with 0.
            training: whether dropout is active.
            packed: the pairs of each row, whose lengths are not checked; None means one in a row.
            decoder: `inputs["decoder"]` of `call`; required if `needs_route`.

        Returns:
            `memory`: float `[batch, source_time, hidden_dim]`, with transparent attention
            `[batch, decoder_layers, source_time, hidden_dim]`. `mask`: bool `[batch, source_time]`,
            false on padding; or `packed.source_mask`.

        Raises:
            InputError: the source is longer than `max_length`.
        """
        if packed is None:
            check_length(source, "source", self.max_length)
            mask, positions = tf.not_equal(source, PAD_ID), None
        else:
            mask, positions = packed.source_mask, packed.source_positions
        rows = source_rows(self.adapter_sets, decoder, packed)

        def encode() -> tf.Tensor:
            x = self._embed("source", source, positions=positions)
            return self.encoder(x, mask=mask, positions=positions, training=training, rows=rows)

        memory = self._with_weights(SOURCE, self._select(SOURCE, decoder), encode)
        return {"memory": memory, "mask": mask}

    def start(
        self,
        memory: State,
        decoder: tf.Tensor,
        beams: int | tf.Tensor,
        max_length: int | tf.Tensor,
    ) -> State:
        """Prepares incremental decoding.

        Args:
            memory: from `encode`, one row for each sentence.
            decoder: int32 `[batch]`, index of the decoder, equal in all rows; see `call`.
            beams: number of hypotheses of each sentence, k.
            max_length: largest number of steps; at most the model's `max_length`. A tensor is not
                checked.

        Returns:
            A nested dict of tensors of fixed shape. Under `cache`, keys and values of
            self-attention are `[batch, k, heads, max_length, head_dim]`, and those of the memory
            are `[batch, heads, source_time, head_dim]`. `weights` holds the weights of the copies
            that the batch uses, if there are several; they have no batch axis.

        Raises:
            InputError: `max_length` exceeds the model's.
        """
        if not tf.is_tensor(max_length) and max_length > self.max_length:
            raise InputError(
                f"max_length {max_length} exceeds the model's max_length {self.max_length}; "
                "decode at most that number of tokens"
            )
        weights, rows = self._select(TARGET, decoder), target_rows(self.adapter_sets, decoder, None)
        cache = self._with_weights(
            TARGET, weights, lambda: self._start_decoder(memory, beams, max_length, rows)
        )
        state: State = {"cache": cache, "mask": memory["mask"]}
        if self.adapter_sets:
            state["route"] = decoder
        if weights is not None:
            state["weights"] = {str(i): weight for i, weight in enumerate(weights)}
        return state

    def _start_decoder(self, memory: State, *arguments: Any) -> State:
        """Returns the state of the layers of the first decoder before the first step."""
        return self.decoders[0].start(memory["memory"], *arguments)

    def step(
        self,
        ids: tf.Tensor,
        index: tf.Tensor,
        state: State,
        weights: list[tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, State]:
        """Predicts the next token.

        Args:
            ids: int32 `[batch, k]`, the tokens at position `index`; at position 0 the start token.
            index: int32 scalar, in [0, max_length).
            state: from `start` or the previous step.
            weights: list to which the last layer's attention to the source, averaged over heads, is
                appended, float32 `[batch, k, source_time]`; None does not compute it.

        Returns:
            Logits of the token after `ids`, float32 `[batch, k, vocabulary_size]`, and the new
            state.
        """
        batch, beams = ids.shape[0] or tf.shape(ids)[0], ids.shape[1] or tf.shape(ids)[1]
        selected = state.get("weights")
        chosen = None if selected is None else [selected[str(i)] for i in range(len(selected))]
        rows = target_rows(self.adapter_sets, state.get("route"), None)

        def step() -> tuple[tf.Tensor, Any]:
            x = self._embed("target", tf.reshape(ids, [-1, 1]), start_index=index)
            x = tf.reshape(x, [batch, beams, self.hidden_dim])
            cache, mask = state["cache"], state["mask"]
            outputs, cache = self.decoders[0].step(x, index, cache, mask, weights, rows)
            return tf.cast(self._logits(outputs), tf.float32), cache

        logits, cache = self._with_weights(TARGET, chosen, step)
        return logits, {**state, "cache": cache}

    def reorder(self, state: State, beam_index: tf.Tensor) -> State:
        """Reorders the beams: beam i of each sentence continues beam `beam_index[:, i]`.

        Args:
            state: from `start` or `step`.
            beam_index: int32 `[batch, k]`, each in [0, k).

        Returns:
            The state with self-attention caches gathered along the beam axis. The beams of a
            sentence share the rest of the state.
        """
        return {**state, "cache": self.decoders[0].reorder(state["cache"], beam_index)}

    def decoder_variables(self, index: int) -> list[keras.Variable]:
        """Returns the trainable variables that only decoder `index` uses."""
        return list(self.decoders[index].trainable_variables)

    def variable_decoder_index(self) -> list[int | None]:
        """Returns the index of the only decoder that uses each of `trainable_variables`, or None.

        All entries are None if there is one decoder. The gradient of a decoder that a batch does
        not use is exactly 0, but an optimizer with momentum would still move its variables.
        """
        return self._stacks.decoder_owners(self.trainable_variables)

    def variable_users(self, routes: Sequence[int]) -> list[list[bool] | None]:
        """Returns which tasks use each of `trainable_variables`; see `StackCopies.users`.

        Args:
            routes: `TranslationTask.route` of each task.
        """
        counts = [len(each.members) for each in self.adapter_sets]
        return self._stacks.users(self.trainable_variables, routes, counts)

    def stacks_with_copies(self) -> dict[str, list[Any]]:
        """Returns the copies of each stack that has several, by name of the stack."""
        return self._stacks.several()

    def copies_of(self, route: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the index of the copy that a route stands for, by name of the stack."""
        return self._stacks.indices(decoder_of(self.adapter_sets, route))

    @property
    def needs_route(self) -> bool:
        """Whether the encoder must know the tasks of its rows."""
        return bool(self.adapter_sets) or self._stacks.differ(SOURCE)

    def vocabulary_axes(self) -> dict[str, int]:
        """Returns the axis of the vocabulary of each variable that has one, by its path."""
        tables = ("embeddings", "source_embedding", "target_embedding")
        rows = [layer.embeddings for table in tables for layer in self._stacks.of(table)]
        dense = [each.projection for each in self.decoders if each.projection]
        columns = [layer.kernel for layer in (*dense, *self._stacks.of("projection"))]
        return {each.path: 0 for each in rows} | {each.path: 1 for each in columns}

    def _embed(self, side: str, ids: tf.Tensor, **options: Any) -> tf.Tensor:
        """Embeds the ids of a side, and adds positions if the model adds them there."""
        if side == "source":
            x, positions = self.source_embedding(ids), self.source_positions
        else:
            x, positions = self.target_embedding(ids), self.target_positions
        return x if positions is None else positions(x, **options)

    def _logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Projects the outputs of a decoder that has no projection of its own."""
        if self.tie_projection:
            return self.target_embedding.logits(outputs)
        return outputs if self.projection is None else self.projection(outputs)

    def _select(self, stacks: Sequence[str], route: tf.Tensor | None) -> list[tf.Tensor] | None:
        return self._stacks.select(stacks, decoder_of(self.adapter_sets, route))

    def _with_weights(
        self, stacks: Sequence[str], weights: list[tf.Tensor] | None, function: Callable[[], Any]
    ) -> Any:
        return self._stacks.call(stacks, weights, self.seed_generator, function)

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        return (*inputs_shape["target"], self.vocabulary_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}

    def get_build_config(self) -> None:
        return None

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the constructor builds the model."""
