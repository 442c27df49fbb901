// The decoder, one position at a time, for any set of hypotheses of any sentences.
//
// A sentence is admitted with its memory, takes part in steps with its live beams, and is released;
// others may come and go meanwhile, each at its own position, and with decoders of their own. What
// a row gives depends only on its own sentence and tokens.
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
  int beam;       // in [0, beams): who the hypothesis is from now on; distinct in a sentence
  int parent;     // beam of the sentence's last step that it continues; ignored at position 0
  int32_t token;  // the last token of the hypothesis: the start token at position 0
  RowRequest request;
};

struct StepOptions : ProjectionOptions {
  // Layer and head (-1: mean over heads) whose cross-attention is returned; -1: none.
  int attention_layer = -1;
  int attention_head = -1;
};

struct StepResult : ProjectionResult {
  // [rows, attention_stride] if asked for: weights over the source, zeros behind its end.
  std::vector<float> attention;
  int attention_stride = 0;  // longest source of the step
};

// One thread of work. Not thread-safe; the model may be shared.
class Decoder {
 public:
  // `beams` >= 1: most hypotheses of a sentence. `threads`: inside an operation.
  Decoder(std::shared_ptr<const Model> model, int beams, int threads = 1);

  const Model& model() const { return *model_; }
  int beams() const { return beams_; }
  // What encoders and decoders of this thread of work share.
  Context context();

  // Begins sentences `first`... of `memory`, all with decoder `decoder` in [0, decoders).
  // Returns their handles, smallest free numbers first. Each must have at least one token.
  // Throws InputError.
  std::vector<int> Admit(const Memory& memory, int decoder);
  // Ends a sentence; its handle will be given again.
  void Release(int sentence);
  // Steps that a sentence has taken.
  int position(int sentence) const { return sentences_[sentence]->cache.position(); }

  // One step of `rows` [count]. The rows of a sentence follow each other; a sentence may be left
  // out and continue later. Throws InputError: an unknown sentence, beam or parent, a token
  // outside the vocabulary, or a position beyond the model's max_length; then nothing has changed.
  void Step(const StepRow* rows, int count, const StepOptions& options, StepResult* result);

  // Bytes held for caches and work, without the model.
  size_t memory_bytes() const;

 private:
  struct Sentence {
    Sentence(EntryPool* pool, int decoder, int length, int beams);
    ~Sentence();
    EntryPool* pool;
    int decoder;
    std::vector<char*> cross;  // [source length]: entries of cross-attention
    SelfCache cache;
  };

  void Check(const StepRow* rows, int count) const;
  // Puts keys and values, rows [count, stride] of which the first 2 * hidden_dim count, into
  // entries.
  void Store(const Context& context, const float* rows, int stride, int count, char* const* entries,
             int layer) const;
  // Rows of one decoder: x [count, hidden_dim] from embeddings to the last layer's output.
  void RunLayers(const Context& context, const StepRow* rows, int count,
                 const DecoderWeights& weights, const StepOptions& options, float* attention,
                 int attention_stride, float* x);

  std::shared_ptr<const Model> model_;
  int beams_;
  ThreadPool pool_;
  Arena arena_;
  EntryPool entries_;  // before sentences_, which give their entries back to it
  std::vector<std::unique_ptr<Sentence>> sentences_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_DECODER_H_
