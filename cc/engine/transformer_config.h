// The hyperparameters of a Transformer's model file, checked against its tensors.
#ifndef KERAS_MTL_ENGINE_TRANSFORMER_CONFIG_H_
#define KERAS_MTL_ENGINE_TRANSFORMER_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model_file.h"
#include "kernels/kernels.h"

namespace keras_mtl {

// A direction of translation.
struct Task {
  std::string name, source, target;
  int32_t tag;  // Id of the target language's tag: the first source token.
  int route;    // Decoder and adapters; see TransformerConfig.
};

// Bottlenecks after layers, LoRA of dense layers, or vectors that are added to the inputs of a
// stack.
enum class AdapterKind { kBottleneck, kLowRank, kEmbedding };

// A set of adapters, of which a sentence uses at most one.
struct AdapterSet {
  AdapterKind kind;
  int size;   // width of a bottleneck, or rank
  int count;  // number of adapters
};

// How the model knows the positions of tokens.
enum class Positions {
  kAdded,   // Tables [max_length, hidden_dim] are added to embeddings.
  kRotary,  // Queries and keys of self-attention are turned by a table [max_length, head_dim].
  kNone
};

struct TransformerConfig {
  int vocabulary_size, hidden_dim, num_heads, intermediate_dim;
  int source_vocabulary_size = 0;  // 0 if sources have no vocabulary of their own.
  int encoder_layers, decoder_layers;
  int max_length;  // Number of positions: limits sources (with tag and end) and targets.
  int decoders;
  bool tie_embeddings;
  bool tie_projection = false;  // Whether the table of the target is the projection, too, if
                                // embeddings are not tied.
  bool int8;                    // Whether matrices are int8 with a scale per row; else float32.
  Activation activation;        // GELU is exact: it uses the error function.
  bool gated = false;     // Whether feed-forward blocks have a gate, to which the activation is
                          // applied.
  bool rms_norm = false;  // Whether normalizations use the root mean square, without mean and beta.
  bool post_norm = false;  // Whether the sum of a sub-layer and its input is normalized instead of
                           // the input. There are no final norms then.
  Positions positions = Positions::kAdded;
  // Whether each decoder layer attends to its own weighted sum of the outputs of all encoder
  // layers.
  bool transparent = false;
  float layer_norm_epsilon;
  int32_t pad_id, bos_id, eos_id, unk_id;
  std::vector<int32_t> non_text_ids;  // Ids that no translation may contain; excludes eos_id.
  std::vector<Task> tasks;
  // A route is a number that stands for a decoder and an adapter of each set. Its last digits, in
  // base count + 1, are the adapters from 1 on, with 0 for none; the rest is the decoder. Without
  // adapters, a route is a decoder.
  std::vector<AdapterSet> adapter_sets;

  // The number of ids of sources.
  int source_ids() const {
    return source_vocabulary_size > 0 ? source_vocabulary_size : vocabulary_size;
  }
  // Whether a table of embeddings is the projection, too.
  bool projection_is_tied() const { return tie_embeddings || tie_projection; }

  // The number of routes.
  int routes() const;
  int DecoderOf(int route) const;
  // The adapter of a set, or -1.
  int AdapterOf(int route, int set) const;

  // The number of outputs of the encoder.
  int memories() const { return transparent ? decoder_layers : 1; }

  // Reads and checks the hyperparameters and the name, dtype and shape of every tensor, so that the
  // engine need not check them again. Throws ModelFileError naming the field.
  static TransformerConfig Read(const ModelFile& file);
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_TRANSFORMER_CONFIG_H_
