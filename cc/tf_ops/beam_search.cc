// KerasMtl>BeamSearch, KerasMtl>BeamSearchStep, KerasMtl>BeamSearchResult: beam search over any
// model whose step is in the graph. The first starts a search, the second is called in a loop with
// the model's outputs for the live rows, and the third returns the results.
#include "engine/beam_search.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/errors.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/framework/resource_handle.h"
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

// Sets the shapes of sentence, parent, position and token of the live rows: equal unknown lengths.
absl::Status RowShapes(InferenceContext* c, int first) {
  const ShapeHandle rows = c->Vector(c->UnknownDim());
  for (int i = 0; i < 4; ++i) c->set_output(first + i, rows);
  return absl::OkStatus();
}

REGISTER_OP("KerasMtl>BeamSearch")
    .Input("max_lengths: int32")
    .Input("prefixes: int32")
    .Input("prefix_lengths: int32")
    .Input("source_lengths: int32")
    .Input("indices: int64")
    .Output("search: resource")
    .Output("sentence: int32")
    .Output("parent: int32")
    .Output("position: int32")
    .Output("token: int32")
    .Attr("options: string")
    .Attr("vocabulary_size: int >= 2")
    .Attr("start_id: int")
    .Attr("eos_id: int")
    .Attr("shortlist: list(int) = []")
    .Attr("log_probabilities: bool = false")
    .Attr("with_alignments: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle max_lengths;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 1, &max_lengths));
      DimensionHandle count;
      TF_RETURN_IF_ERROR(SentenceShapes(c, &count));
      TF_RETURN_IF_ERROR(c->Merge(count, c->Dim(max_lengths, 0), &count));
      c->set_output(0, c->Scalar());
      return RowShapes(c, 1);
    })
    .Doc(R"doc(
Starts a beam search over sentences.

max_lengths: [N], maximum of tokens per sentence; 0 gives one empty hypothesis with score 0.
prefixes: [N, P], tokens that every hypothesis of a sentence begins with.
prefix_lengths: [N], number of prefix tokens of each sentence.
source_lengths: [N], number of attention columns of each sentence.
indices: [N], numbers of the sentences in messages; with the seed, they determine the samples.
search: the search; it exists as long as the handle.
sentence: [R], sentence of each live hypothesis, ascending.
parent: [R], the row of the previous step that it continues; -1 at the start.
position: [R], tokens so far.
token: [R], the newest token, which is the model's next input.
options: lines `name=value`; names and meanings are those of keras_mtl.decoding.BeamOptions.
shortlist: the only ids that may be produced; empty allows all.
log_probabilities: whether the model returns normalized log-probabilities instead of logits.
with_alignments: whether hypotheses have alignments; every step then requires attention.
)doc");

REGISTER_OP("KerasMtl>BeamSearchStep")
    .Input("search: resource")
    .Input("outputs: float")
    .Input("attention: float")
    .Output("sentence: int32")
    .Output("parent: int32")
    .Output("position: int32")
    .Output("token: int32")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle search, outputs, attention;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &search));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &outputs));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 2, &attention));
      DimensionHandle unused;
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(outputs, 0), c->Dim(attention, 0), &unused));
      return RowShapes(c, 0);
    })
    .Doc(R"doc(
Advances a search by one step, given the model's outputs for the live rows.

outputs: [R, vocabulary_size], logits or log-probabilities.
attention: [R, S], from each row to the source; [R, 0] if there is none.
sentence: the live rows of the next step, as in KerasMtl>BeamSearch; empty if the search has ended.
)doc");

REGISTER_OP("KerasMtl>BeamSearchResult")
    .Input("search: resource")
    .Output("ids: int32")
    .Output("lengths: int32")
    .Output("scores: float")
    .Output("log_probabilities: float")
    .Output("counts: int32")
    .Output("token_scores: float")
    .Output("ended: bool")
    .Output("alignments: float")
    .Attr("num_hypotheses: int >= 1")
    .Attr("max_length: int >= 1")
    .Attr("pad_id: int = 0")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle search;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &search));
      int64_t hypotheses, longest;
      TF_RETURN_IF_ERROR(c->GetAttr("num_hypotheses", &hypotheses));
      TF_RETURN_IF_ERROR(c->GetAttr("max_length", &longest));
      const DimensionHandle count = c->UnknownDim();
      const ShapeHandle matrix = c->Matrix(count, c->MakeDim(hypotheses));
      c->set_output(0, c->MakeShape({count, c->MakeDim(hypotheses), c->MakeDim(longest)}));
      for (int i : {1, 2, 3, 6}) c->set_output(i, matrix);
      c->set_output(4, c->Vector(count));
      c->set_output(5, c->MakeShape({count, c->MakeDim(hypotheses), c->MakeDim(longest + 1)}));
      c->set_output(7, c->MakeShape({count, c->MakeDim(hypotheses), c->MakeDim(longest + 1),
                                     c->UnknownDim()}));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Returns the results of a finished search, best hypothesis first.

ids: [N, num_hypotheses, max_length], without the end of sentence, padded with pad_id.
lengths: [N, num_hypotheses], number of tokens in ids.
scores: [N, num_hypotheses], padded with -inf.
log_probabilities: [N, num_hypotheses], including the end of sentence; padded with -inf.
counts: [N], number of hypotheses.
token_scores: [N, num_hypotheses, max_length + 1], log-probability of each token, then of the end of
  sentence if there is one; padded with 0.
ended: [N, num_hypotheses], whether the hypothesis has an end of sentence.
alignments: [N, num_hypotheses, max_length + 1, S], attention to the source from each token, then
  from the end of sentence; padded with 0. S is 0 if the search has no alignments.
)doc");

class Search : public tensorflow::ResourceBase {
 public:
  Search(const BeamOptions& options, int vocabulary_size, int32_t start_id, int32_t eos_id,
         const std::vector<int32_t>& shortlist, bool log_probabilities, bool alignments)
      : vocabulary_size(vocabulary_size),
        log_probabilities(log_probabilities),
        alignments(alignments),
        search(options, vocabulary_size, start_id, eos_id, shortlist, alignments) {}

  std::string DebugString() const override { return "keras_mtl beam search"; }

  const int vocabulary_size;
  const bool log_probabilities;
  const bool alignments;
  std::mutex mutex;
  BeamSearch search;
};

// Outputs the live rows.
void SetRows(OpKernelContext* context, int first, const std::vector<Row>& rows) {
  const TensorShape shape({static_cast<int64_t>(rows.size())});
  int32_t* columns[4];
  for (int i = 0; i < 4; ++i) {
    Tensor* column = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(first + i, shape, &column));
    columns[i] = column->flat<int32_t>().data();
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    columns[0][i] = rows[i].sentence;
    columns[1][i] = rows[i].parent;
    columns[2][i] = rows[i].position;
    columns[3][i] = rows[i].token;
  }
}

absl::Status FindSearch(OpKernelContext* context, Search** search) {
  const Tensor& handle = context->input(0);
  if (handle.NumElements() != 1) {
    return absl::InvalidArgumentError("search must be a single handle, but has shape " +
                                      handle.shape().DebugString());
  }
  auto found = handle.flat<tensorflow::ResourceHandle>()(0).GetResource<Search>();
  if (!found.ok()) return found.status();
  *search = *found;
  return absl::OkStatus();
}

class BeamSearchOp : public OpKernel {
 public:
  explicit BeamSearchOp(OpKernelConstruction* context) : OpKernel(context) {
    std::string options;
    OP_REQUIRES_OK(context, ReadAttributes(context, "options", &options, "vocabulary_size",
                                           &vocabulary_size_, "start_id", &start_id_, "eos_id",
                                           &eos_id_, "shortlist", &shortlist_, "log_probabilities",
                                           &log_probabilities_, "with_alignments", &alignments_));
    OP_REQUIRES_OK(context, Guard([&] {
                     options_ = ParseOptions(options);
                     options_.Check(vocabulary_size_, eos_id_);
                   }));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& max_lengths = context->input(0);
    const Tensor& prefixes = context->input(1);
    OP_REQUIRES_OK(context, CheckSentences(context));
    OP_REQUIRES_OK(context, CheckLengths(context, 2));
    const int64_t count = prefixes.dim_size(0), width = prefixes.dim_size(1);
    OP_REQUIRES(context, max_lengths.dims() == 1 && max_lengths.NumElements() == count,
                absl::InvalidArgumentError("max_lengths has shape " +
                                           max_lengths.shape().DebugString() + "; expected [" +
                                           std::to_string(count) + "], one per row of prefixes"));
    const auto prefix_lengths = context->input(2).vec<int32_t>();
    Search* search = nullptr;
    OP_REQUIRES_OK(context, Guard([&] {
                     search = new Search(options_, vocabulary_size_, start_id_, eos_id_, shortlist_,
                                         log_probabilities_, alignments_);
                   }));
    // The handle takes ownership of the only reference.
    Tensor* handle = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({}), &handle));
    handle->scalar<tensorflow::ResourceHandle>()() =
        tensorflow::ResourceHandle::MakeRefCountingHandle(search, context->device()->name());
    OP_REQUIRES_OK(context, Guard([&] {
                     const int32_t* prefix = prefixes.flat<int32_t>().data();
                     for (int64_t i = 0; i < count; ++i, prefix += width) {
                       search->search.Add({context->input(4).vec<int64_t>()(i),
                                           max_lengths.vec<int32_t>()(i),
                                           {prefix, prefix + prefix_lengths(i)},
                                           context->input(3).vec<int32_t>()(i)});
                     }
                   }));
    SetRows(context, 1, search->search.rows());
  }

 private:
  BeamOptions options_;
  int vocabulary_size_, start_id_, eos_id_;
  std::vector<int32_t> shortlist_;
  bool log_probabilities_, alignments_;
};

class BeamSearchStepOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Search* search = nullptr;
    OP_REQUIRES_OK(context, FindSearch(context, &search));
    const Tensor& outputs = context->input(1);
    const Tensor& attention = context->input(2);
    std::lock_guard<std::mutex> lock(search->mutex);
    const int64_t rows = static_cast<int64_t>(search->search.rows().size());
    OP_REQUIRES(context,
                outputs.dims() == 2 && outputs.dim_size(0) == rows &&
                    outputs.dim_size(1) == search->vocabulary_size,
                absl::InvalidArgumentError("outputs has shape " + outputs.shape().DebugString() +
                                           "; expected [" + std::to_string(rows) + "," +
                                           std::to_string(search->vocabulary_size) + "]"));
    OP_REQUIRES(
        context, attention.dims() == 2 && attention.dim_size(0) == rows,
        absl::InvalidArgumentError("attention has shape " + attention.shape().DebugString() +
                                   "; expected [" + std::to_string(rows) + ",source length]"));
    Attention weights;
    if (attention.dim_size(1) > 0) {
      weights.weights = attention.flat<float>().data();
      weights.width = static_cast<int>(attention.dim_size(1));
    }
    OP_REQUIRES_OK(context, Guard([&] {
                     search->search.Advance(outputs.flat<float>().data(), search->log_probabilities,
                                            weights);
                   }));
    SetRows(context, 0, search->search.rows());
  }
};

class BeamSearchResultOp : public OpKernel {
 public:
  explicit BeamSearchResultOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadAttributes(context, "num_hypotheses", &hypotheses_, "max_length",
                                           &longest_, "pad_id", &pad_id_));
    OP_REQUIRES(context, longest_ <= kMaxSize && hypotheses_ <= kMaxSize,
                absl::InvalidArgumentError("max_length=" + std::to_string(longest_) +
                                           ", num_hypotheses=" + std::to_string(hypotheses_) +
                                           ": give at most " + std::to_string(kMaxSize) + " each"));
  }

  void Compute(OpKernelContext* context) override {
    Search* found = nullptr;
    OP_REQUIRES_OK(context, FindSearch(context, &found));
    std::lock_guard<std::mutex> lock(found->mutex);
    const BeamSearch& search = found->search;
    const int sentences = search.sentences();
    for (int i = 0; i < sentences; ++i) {
      OP_REQUIRES(context, search.done(i),
                  absl::FailedPreconditionError(
                      "the search has not ended: call KerasMtl>BeamSearchStep until it returns no "
                      "rows"));
    }
    std::vector<const std::vector<Hypothesis>*> results;
    Tensor* counts = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(4, TensorShape({sentences}), &counts));
    int64_t width = 0;
    for (int i = 0; i < sentences; ++i) {
      results.push_back(&search.results(i));
      const int found_here = static_cast<int>(results.back()->size());
      counts->vec<int32_t>()(i) = std::min(found_here, hypotheses_);
      for (const Hypothesis& hypothesis : *results.back()) {
        if (!found->alignments || hypothesis.alignment.empty()) continue;
        width = std::max(width, static_cast<int64_t>(hypothesis.alignment.size() /
                                                     hypothesis.token_scores.size()));
      }
    }
    OP_REQUIRES(context, LongestHypothesis(results) <= longest_,
                absl::InvalidArgumentError("max_length=" + std::to_string(longest_) +
                                           " is smaller than that of the search"));
    OP_REQUIRES_OK(context, SetHypotheses(context, {0, 1, 2, 3, 6, 5, 7},
                                          {hypotheses_, longest_, width, pad_id_}, results));
  }

 private:
  static constexpr int kMaxSize = 1 << 24;

  int hypotheses_, longest_, pad_id_;
};

REGISTER_KERNEL_BUILDER(Name("KerasMtl>BeamSearch").Device(tensorflow::DEVICE_CPU), BeamSearchOp);
REGISTER_KERNEL_BUILDER(Name("KerasMtl>BeamSearchStep").Device(tensorflow::DEVICE_CPU),
                        BeamSearchStepOp);
REGISTER_KERNEL_BUILDER(Name("KerasMtl>BeamSearchResult").Device(tensorflow::DEVICE_CPU),
                        BeamSearchResultOp);

}  // namespace
}  // namespace keras_mtl
