// KerasMtl>Translate: translates token ids with the engine and a model file.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/errors.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf_ops/hypotheses.h"
#include "tf_ops/inputs.h"
#include "tf_ops/options.h"

namespace keras_mtl {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("KerasMtl>Translate")
    .Input("path: string")
    .Input("source: int32")
    .Input("lengths: int32")
    .Input("decoders: int32")
    .Input("indices: int64")
    .Output("ids: int32")
    .Output("target_lengths: int32")
    .Output("scores: float")
    .Output("log_probabilities: float")
    .Output("ended: bool")
    .Output("token_scores: float")
    .Output("alignments: float")
    .Attr("options: string")
    .Attr("num_hypotheses: int >= 1")
    .Attr("max_batch_size: int >= 1 = 64")
    .Attr("compute_type: {'auto', 'float32', 'int8'} = 'auto'")
    .Attr("workers: int >= 0 = 0")
    .Attr("pad_id: int = 0")
    .Attr("with_alignments: bool = false")
    // Stateful, because the result depends on the file's content: this prevents constant folding.
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle path;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &path));
      DimensionHandle count;
      TF_RETURN_IF_ERROR(SentenceShapes(c, &count));
      int64_t hypotheses;
      TF_RETURN_IF_ERROR(c->GetAttr("num_hypotheses", &hypotheses));
      const DimensionHandle found = c->MakeDim(hypotheses);
      for (int i : {0, 5}) c->set_output(i, c->MakeShape({count, found, c->UnknownDim()}));
      for (int i : {1, 2, 3, 4}) c->set_output(i, c->Matrix(count, found));
      c->set_output(6, c->MakeShape({count, found, c->UnknownDim(), c->UnknownDim()}));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Translates sentences with a model file of the engine.

path: the model file; all operations of a process with the same path share the model in memory.
source: [N, S], token ids: tag of the target language first, end of sentence last; padded with any
  id.
lengths: [N], number of ids of each sentence. A sentence without ids, or with only a tag and an end
  of sentence, gets an empty hypothesis.
decoders: [N], index of the decoder.
indices: [N], numbers of the sentences in messages; with the seed, they determine the samples.
ids: [N, num_hypotheses, T], best first, without the end of sentence, padded with pad_id; T is the
  length of the longest hypothesis.
target_lengths: [N, num_hypotheses], number of tokens in ids.
scores: [N, num_hypotheses], padded with -inf.
log_probabilities: [N, num_hypotheses], including the end of sentence; padded with -inf.
ended: [N, num_hypotheses], whether the hypothesis has an end of sentence; if not, it was truncated.
token_scores: [N, num_hypotheses, T + 1], log-probability of each token, then of the end of sentence
  if there is one; padded with 0.
alignments: [N, num_hypotheses, T + 1, S], attention of the last layer, averaged over heads, to the
  source ids from each token, then from the end of sentence; padded with 0. S is 0 unless
  with_alignments is set.
options: lines `name=value`; names and meanings are those of keras_mtl.decoding.BeamOptions.
num_hypotheses: must equal num_hypotheses of the options; shapes depend on it.
compute_type: auto means the type of the file's weights.
workers: threads that share a call; 0 means one per processor. The first operation that opens the
  file determines the number.
)doc");

// Identifies the file that a path currently names. A replaced file has another id.
using FileId = std::array<int64_t, 5>;

FileId Identify(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return {};  // Opening the file will report the error.
  return {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
          static_cast<int64_t>(info.st_size), static_cast<int64_t>(info.st_mtim.tv_sec),
          static_cast<int64_t>(info.st_mtim.tv_nsec)};
}

// The engines in use, by file and compute type. An engine exists as long as an operation uses it.
class Engines {
 public:
  static std::shared_ptr<Engine> Get(const std::string& path, const FileId& file,
                                     const EngineOptions& options) {
    // Never destroyed, because operations may outlive main().
    static Engines* const engines = new Engines;
    std::lock_guard<std::mutex> lock(engines->mutex_);
    std::weak_ptr<Engine>& known = engines->engines_[{file, options.compute_type}];
    std::shared_ptr<Engine> engine = known.lock();
    if (engine == nullptr) known = engine = Engine::Open(path, options);
    return engine;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<FileId, std::string>, std::weak_ptr<Engine>> engines_;
};

class TranslateOp : public OpKernel {
 public:
  explicit TranslateOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string options;
    OP_REQUIRES_OK(
        context, ReadAttributes(context, "options", &options, "num_hypotheses", &hypotheses_,
                                "max_batch_size", &request_.max_batch_size, "compute_type",
                                &engine_options_.compute_type, "workers", &engine_options_.workers,
                                "pad_id", &pad_id_, "with_alignments", &request_.alignments));
    OP_REQUIRES_OK(context, Guard([&] { request_.options = ParseOptions(options); }));
    OP_REQUIRES(context, request_.options.num_hypotheses == hypotheses_,
                absl::InvalidArgumentError(
                    "num_hypotheses=" + std::to_string(hypotheses_) + ", but the options contain " +
                    std::to_string(request_.options.num_hypotheses) + ": give equal values"));
    engine_options_.isa = RequestedIsa();
    if (engine_options_.workers == 0) {
      engine_options_.workers =
          static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 1024u));
    }
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& path = context->input(0);
    const Tensor& source = context->input(1);
    OP_REQUIRES(context, path.NumElements() == 1,
                absl::InvalidArgumentError("path has shape " + path.shape().DebugString() +
                                           "; give the path of one file"));
    OP_REQUIRES_OK(context, CheckSentences(context));
    OP_REQUIRES_OK(context, CheckLengths(context, 2));
    const int64_t count = source.dim_size(0), width = source.dim_size(1);
    const auto lengths = context->input(2).vec<int32_t>();
    const auto decoders = context->input(3).vec<int32_t>();
    const auto indices = context->input(4).vec<int64_t>();
    TranslateRequest request = request_;
    std::vector<std::vector<Hypothesis>> found;
    OP_REQUIRES_OK(
        context, Guard([&] {
          const int32_t* row = source.flat<int32_t>().data();
          for (int64_t i = 0; i < count; ++i, row += width) {
            request.source.Add(row, lengths(i));
          }
          request.decoders.assign(decoders.data(), decoders.data() + count);
          request.indices.assign(indices.data(), indices.data() + count);
          const auto cancelled = [context] {
            return context->cancellation_manager() != nullptr &&
                   context->cancellation_manager()->IsCancelled();
          };
          if (count > 0) {
            found = FindEngine(path.flat<tensorflow::tstring>()(0))->Translate(request, cancelled);
          }
        }));
    std::vector<const std::vector<Hypothesis>*> results;
    for (const std::vector<Hypothesis>& hypotheses : found) results.push_back(&hypotheses);
    OP_REQUIRES_OK(context, SetHypotheses(context, {0, 1, 2, 3, 4, 5, 6},
                                          {hypotheses_, LongestHypothesis(results),
                                           request_.alignments ? width : 0, pad_id_},
                                          results));
  }

 private:
  std::shared_ptr<Engine> FindEngine(const std::string& path) {
    const FileId file = Identify(path);
    std::lock_guard<std::mutex> lock(mutex_);
    if (engine_ == nullptr || file != file_) {
      engine_ = Engines::Get(path, file, engine_options_);
      file_ = file;
    }
    return engine_;
  }

  TranslateRequest request_;  // The part of the request that is the same for all calls.
  EngineOptions engine_options_;
  int hypotheses_, pad_id_;
  std::mutex mutex_;
  FileId file_ = {};
  std::shared_ptr<Engine> engine_;
};

REGISTER_KERNEL_BUILDER(Name("KerasMtl>Translate").Device(tensorflow::DEVICE_CPU), TranslateOp);

}  // namespace
}  // namespace keras_mtl
