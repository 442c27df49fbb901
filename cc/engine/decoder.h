// The decoder: computes one position per step for any set of hypotheses of any sentences.
//
// A sentence is admitted with its encoder output, takes part in steps with its live beams, and is
// released. Other sentences may be admitted and released meanwhile, each with its own position and
// its own decoder. The result of a row depends only on its own sentence and tokens.
#ifndef KERAS_MTL_ENGINE_DECODER_H_
#define KERAS_MTL_ENGINE_DECODER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/blocks.h"
#include "engine/cache.h"
#include "engine/encoder.h"
#include "engine/projection.h"

namespace keras_mtl {

// One hypothesis in a step.
struct StepRow {
  int sentence;   // from Admit()
  int beam;       // in [0, beams): identifies the hypothesis from now on; unique in a sentence
  int parent;     // the beam of the sentence's last step that it continues; ignored at position 0
  int32_t token;  // the last token of the hypothesis; the start token at position 0
  RowRequest request;
};

struct StepOptions : ProjectionOptions {
  // The layer whose cross-attention is returned (-1: none) and the head (-1: mean over heads).
  int attention_layer = -1;
  int attention_head = -1;
};

struct StepResult : ProjectionResult {
  // [rows, attention_stride] if requested: weights over the source, padded with zeros.
  std::vector<float> attention;
  int attention_stride = 0;  // length of the longest source in the step
};

// The state of one worker. Not thread-safe; the model may be shared.
class Decoder {
 public:
  // `beams` in [1, 65535]: maximum of hypotheses per sentence. `threads`: threads inside one
  // operation. Throws InputError.
  Decoder(std::shared_ptr<const Model> model, int beams, int threads = 1);

  const Model& model() const { return *model_; }
  int beams() const { return beams_; }
  // The context that the encoder and the decoder of this worker share.
  Context context();

  // Admits all sentences of `memory`, with their routes in [0, routes), which have one decoder.
  // Each must have at least one token. Returns their handles, the smallest free numbers first.
  // Throws InputError.
  std::vector<int> Admit(const Memory& memory, const std::vector<int>& routes);
  // The same for sentences of one route.
  std::vector<int> Admit(const Memory& memory, int route);
  // Releases a sentence; its handle may be reused.
  void Release(int sentence);
  // The number of steps of a sentence so far.
  int position(int sentence) const { return sentences_[sentence]->cache.position(); }

  // Runs one step of `rows` [count]. The rows of a sentence must be consecutive; a sentence may be
  // left out and continue later. Throws InputError for an unknown sentence, beam or parent, a token
  // outside the vocabulary, or a position beyond the model's max_length. The state is then
  // unchanged.
  void Step(const StepRow* rows, int count, const StepOptions& options, StepResult* result);

  // Bytes held for caches and scratch memory, without the model.
  size_t memory_bytes() const;

 private:
  struct Sentence {
    Sentence(EntryPool* pool, int route, int decoder, int length, int beams);
    ~Sentence();
    EntryPool* pool;
    int route;
    int decoder;
    std::vector<char*> cross;  // [source length]: entries of cross-attention
    SelfCache cache;
  };

  void Check(const StepRow* rows, int count) const;
  // Stores keys and values in `entries`: the first 2 * hidden_dim columns of rows [count, stride].
  void Store(const Context& context, const float* rows, int stride, int count, char* const* entries,
             int layer) const;
  // Computes x [count, hidden_dim], the last layer's output, for rows of one decoder.
  void RunLayers(const Context& context, const StepRow* rows, int count,
                 const DecoderWeights& weights, const StepOptions& options, float* attention,
                 int attention_stride, float* x);

  std::shared_ptr<const Model> model_;
  int beams_;
  ThreadPool pool_;
  Arena arena_;
  EntryPool entries_;  // declared before sentences_, which return their entries to it
  std::vector<std::unique_ptr<Sentence>> sentences_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_DECODER_H_
