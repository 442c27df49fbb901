// The engine with its workers: any distribution of work gives the same hypotheses; calls from many
// threads; interrupted and failed calls.
#include <algorithm>
#include <atomic>
#include <thread>

#include "engine/engine.h"
#include "engine/errors.h"
#include "tests/random_model.h"

namespace keras_mtl {
namespace {

using namespace testing;

TransformerConfig SmallConfig() {
  TransformerConfig config{};
  config.vocabulary_size = 67;
  config.hidden_dim = 20;
  config.num_heads = 2;
  config.intermediate_dim = 24;
  config.encoder_layers = config.decoder_layers = 1;
  config.max_length = 16;
  config.decoders = 2;
  config.tie_embeddings = true;
  config.layer_norm_epsilon = 1e-6f;
  config.bos_id = 1;
  config.eos_id = 2;
  return config;
}

TranslateRequest MakeRequest(int sentences, unsigned seed) {
  Random random(seed);
  TranslateRequest request;
  for (int s = 0; s < sentences; ++s) {
    std::vector<int32_t> ids(1 + random() % 14);
    for (int32_t& id : ids) id = 3 + static_cast<int32_t>(random() % 64u);
    request.source.Add(ids.data(), static_cast<int>(ids.size()));
    request.decoders.push_back(s % 3 == 0);
    request.indices.push_back(s);
    request.prefixes.push_back(s % 4 == 0 ? std::vector<int32_t>{5, 6} : std::vector<int32_t>{});
  }
  request.options.beam_size = 3;
  request.options.num_hypotheses = 2;
  request.options.max_length = 12;
  request.options.suppress = {0, 1};
  return request;
}

bool Same(const std::vector<std::vector<Hypothesis>>& a,
          const std::vector<std::vector<Hypothesis>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const auto& h, const auto& g) {
      return h.ids == g.ids && h.score == g.score && SameBits(h.token_scores, g.token_scores);
    });
  });
}

TEST(WorkersThreadsAndBatchesChangeNothing) {
  const RandomModel random_model(SmallConfig(), 1);
  const auto model = random_model.Load(ComputeType::kInt8, Isas().back());
  TranslateRequest request = MakeRequest(60, 2);
  const auto want = Engine(model, 1, 1).Translate(request);
  CHECK(want.size() == 60 && !want[0].empty());
  for (int workers : {1, 3}) {
    for (int threads : {1, 2}) {
      Engine engine(model, workers, threads);
      for (int batch : {1, 5, 64}) {
        request.max_batch_size = batch;
        CHECK(Same(engine.Translate(request), want), "%d x %d, batch %d", workers, threads, batch);
      }
    }
  }
}

// With this number of sentences, the products of decoding steps use tiles of every kind.
TEST(EveryInstructionSetGivesTheSameTranslations) {
  const RandomModel random_model(SmallConfig(), 9);
  TranslateRequest request = MakeRequest(60, 10);
  std::vector<std::vector<Hypothesis>> want;
  for (Isa isa : Isas()) {
    Engine engine(random_model.Load(ComputeType::kInt8, isa), 1, 1);
    for (int batch : {7, 64}) {
      request.max_batch_size = batch;
      const auto found = engine.Translate(request);
      if (want.empty()) want = found;
      CHECK(Same(found, want), "%s, batch %d", IsaName(isa), batch);
    }
  }
}

TEST(AlignmentsChangeNothingElseAndAreThereOnlyIfAskedFor) {
  const RandomModel random_model(SmallConfig(), 11);
  Engine engine(random_model.Load(ComputeType::kInt8, Isas().back()), 2, 1);
  TranslateRequest request = MakeRequest(30, 12);
  const auto without = engine.Translate(request);
  request.alignments = true;
  const auto with = engine.Translate(request);
  CHECK(Same(without, with));
  for (size_t i = 0; i < with.size(); ++i) {
    const size_t width = request.source.length(static_cast<int>(i));
    for (size_t n = 0; n < with[i].size(); ++n) {
      CHECK(without[i][n].alignment.empty());
      CHECK(with[i][n].alignment.size() == with[i][n].token_scores.size() * width, "sentence %zu",
            i);
    }
  }
}

TEST(CallsOfManyThreads) {
  const RandomModel random_model(SmallConfig(), 3);
  Engine engine(random_model.Load(ComputeType::kFloat32, Isas().back()), 2, 1);
  std::vector<TranslateRequest> requests;
  std::vector<std::vector<std::vector<Hypothesis>>> want;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(MakeRequest(5 + i, 10 + i));
    requests.back().options.beam_size = 2 + i % 3;
    want.push_back(engine.Translate(requests.back()));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i) {
    callers.emplace_back([&, i] {
      for (int repeat = 0; repeat < 5; ++repeat) {
        const int which = (i + repeat) % 6;
        wrong += !Same(engine.Translate(requests[which]), want[which]);
        wrong += engine.Encode(requests[which].source).rows.empty();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0, "%d calls", wrong.load());
}

TEST(InterruptedAndFailedCallsLeaveTheEngineUsable) {
  const RandomModel random_model(SmallConfig(), 4);
  Engine engine(random_model.Load(ComputeType::kFloat32, Isas().back()), 2, 2);
  TranslateRequest large = MakeRequest(20000, 5);
  int polls = 0;
  bool interrupted = false;
  try {
    engine.Translate(large, [&] { return ++polls == 2; });
  } catch (const InterruptedError&) {
    interrupted = true;
  }
  CHECK(interrupted && polls == 2);
  bool own = false;
  try {
    engine.Translate(large, []() -> bool { throw std::string("mine"); });
  } catch (const std::string& text) {
    own = text == "mine";
  }
  CHECK(own);
  bool rejected = false;
  large.options.beam_size = 0;
  try {
    engine.Translate(large);
  } catch (const InputError&) {
    rejected = true;
  }
  CHECK(rejected);
  CHECK(engine.Translate(MakeRequest(3, 6)).size() == 3);
}

TEST(ScoresAreThoseOfTheSearch) {
  const RandomModel random_model(SmallConfig(), 7);
  Engine engine(random_model.Load(ComputeType::kInt8, Isas().back()), 2, 1);
  TranslateRequest request = MakeRequest(30, 8);
  request.options.min_length = 0;
  request.options.suppress.clear();
  const auto found = engine.Translate(request);
  ScoreRequest score;
  score.source = request.source;
  score.decoders = request.decoders;
  score.max_batch_size = 7;
  for (const auto& hypotheses : found) {
    std::vector<int32_t> target = hypotheses[0].ids;
    if (hypotheses[0].ended) target.push_back(2);
    score.target.Add(target.data(), static_cast<int>(target.size()));
  }
  const auto scores = engine.Score(score);
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK(SameBits(scores[i], found[i][0].token_scores), "sentence %zu", i);
  }
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
