// The engine gives the same results on every instruction set, for single sentences and batches,
// with any reordering of beams, and when sentences are added and removed. It rejects invalid input.
#include <algorithm>

#include "engine/decoder.h"
#include "engine/errors.h"
#include "tests/random_model.h"

namespace keras_mtl {
namespace {

using namespace testing;

// No dimension is a multiple of 16, the size of the vocabulary is prime, and the numbers of layers
// differ.
TransformerConfig OddConfig() {
  TransformerConfig config{};
  config.vocabulary_size = 131;
  config.hidden_dim = 36;
  config.num_heads = 3;
  config.intermediate_dim = 50;
  config.encoder_layers = 2;
  config.decoder_layers = 3;
  config.max_length = 40;
  config.decoders = 1;
  config.tie_embeddings = true;
  config.layer_norm_epsilon = 1e-6f;
  return config;
}

std::vector<int32_t> RandomIds(Random& random, int count, int vocabulary) {
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<unsigned>(vocabulary));
  return ids;
}

// Returns all logits of each step for a target fed token by token.
std::vector<float> Forced(Decoder& decoder, const std::vector<int32_t>& source,
                          const std::vector<int32_t>& target, int which = 0) {
  TokenBatch batch;
  batch.Add(source.data(), static_cast<int>(source.size()));
  const int sentence = decoder.Admit(Encode(decoder.model(), decoder.context(), batch), which)[0];
  std::vector<float> result;
  StepOptions options;
  options.all = true;
  for (int32_t token : target) {
    const StepRow row{sentence, 0, 0, token, {}};
    StepResult step;
    decoder.Step(&row, 1, options, &step);
    result.insert(result.end(), step.all_logits.begin(), step.all_logits.end());
  }
  decoder.Release(sentence);
  return result;
}

TEST(EveryInstructionSetAndThreadCountGivesTheSameBits) {
  for (int variant = 0; variant < 5; ++variant) {
    TransformerConfig config = OddConfig();
    config.activation = static_cast<Activation>(1 + variant % 3);
    config.tie_embeddings = config.activation != Activation::kGelu;
    // Each sub-layer occurs with another choice of the rest.
    config.gated = variant >= 3;
    config.rms_norm = variant == 2 || variant == 4;
    config.post_norm = variant == 1 || variant == 4;
    config.transparent = variant == 2 || variant == 4;
    config.positions = variant % 2 == 1 ? Positions::kRotary
                       : variant == 2   ? Positions::kNone
                                        : Positions::kAdded;
    const RandomModel random_model(config, 1);
    Random random(2);
    const auto source = RandomIds(random, 19, config.vocabulary_size);
    const auto target = RandomIds(random, 21, config.vocabulary_size);
    for (ComputeType compute : {ComputeType::kFloat32, ComputeType::kInt8}) {
      std::vector<float> first;
      for (Isa isa : Isas()) {
        for (int threads : {1, 3}) {
          Decoder decoder(random_model.Load(compute, isa), 2, threads);
          const auto result = Forced(decoder, source, target);
          if (first.empty()) first = result;
          CHECK(SameBits(result, first), "%s, %d threads", IsaName(isa), threads);
        }
      }
    }
  }
}

// Compares randomly reordered beams with separately fed hypotheses.
TEST(ReorderedBeamsEqualSeparateHypotheses) {
  const TransformerConfig config = OddConfig();
  const RandomModel random_model(config, 3);
  const int beams = 4, steps = 20, sentences = 3;
  for (ComputeType compute : {ComputeType::kFloat32, ComputeType::kInt8}) {
    const auto model = random_model.Load(compute, Isas().back());
    Random random(4);
    Decoder decoder(model, beams), separate(model, 1);
    TokenBatch batch;
    std::vector<std::vector<int32_t>> sources;
    for (int s = 0; s < sentences; ++s) {
      sources.push_back(RandomIds(random, 3 + 8 * s, config.vocabulary_size));
      batch.Add(sources.back().data(), static_cast<int>(sources.back().size()));
    }
    const auto handles = decoder.Admit(Encode(*model, decoder.context(), batch), 0);
    std::vector<std::vector<std::vector<int32_t>>> hypotheses(
        sentences, std::vector<std::vector<int32_t>>(beams));
    StepResult result;
    std::vector<StepRow> rows;
    for (int t = 0; t < steps; ++t) {
      rows.clear();
      for (int s = 0; s < sentences; ++s) {
        if (s == 1 && t % 3 == 1) continue;  // leave a sentence out of some steps
        const auto before = hypotheses[s];
        // The first step has one beam; the last ones have three.
        const int count = decoder.position(handles[s]) == 0 ? 1 : t > 15 ? 3 : beams;
        const int parents = decoder.position(handles[s]) == 1 ? 1 : t > 16 ? 3 : beams;
        for (int b = 0; b < count; ++b) {
          const int parent = static_cast<int>(random() % static_cast<unsigned>(parents));
          const auto token = RandomIds(random, 1, config.vocabulary_size)[0];
          rows.push_back({handles[s], b, parent, token, {}});
          hypotheses[s][b] = before[parent];
          hypotheses[s][b].push_back(token);
        }
      }
      StepOptions options;
      options.all = true;
      decoder.Step(rows.data(), static_cast<int>(rows.size()), options, &result);
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      const int s = static_cast<int>(std::find(handles.begin(), handles.end(), rows[i].sentence) -
                                     handles.begin());
      const auto want = Forced(separate, sources[s], hypotheses[s][rows[i].beam]);
      CHECK(std::memcmp(want.data() + want.size() - config.vocabulary_size,
                        result.all_logits.data() + i * config.vocabulary_size,
                        config.vocabulary_size * sizeof(float)) == 0,
            "sentence %d beam %d", s, rows[i].beam);
    }
  }
}

// Beams share most of their history; entries without descendants are reused.
TEST(EntriesThatNoBeamDescendsFromAreUsedAgain) {
  const EntryLayout layout(3, 12, ComputeType::kInt8);
  EntryPool pool(layout, 2);
  Random random(10);
  std::vector<std::vector<const char*>> paths(4);
  {
    SelfCache cache(&pool, 4);
    const int beams[] = {3, 0, 2, 1};
    unsigned live = 1;  // Number of beams in the last step.
    for (int t = 0; t < 300; ++t) {
      const int count = t == 0 ? 1 : t == 1 ? 2 : 4;
      // Continue from two beams, and every fifth step from a single one.
      const int one = beams[random() % live], other = t % 5 == 0 ? one : beams[random() % live];
      const int parents[] = {one, other, one, other};
      cache.Advance(beams, parents, count);
      const auto before = paths;
      for (int i = 0; i < count; ++i) {
        auto& path = paths[beams[i]];
        path.resize(t + 1);
        cache.Path(beams[i], path.data());
        CHECK(path.back() == cache.Entry(beams[i]));
        CHECK(t == 0 || std::equal(path.begin(), path.end() - 1, before[parents[i]].begin()));
        for (int k = 0; k < i; ++k) CHECK(path.back() != paths[beams[k]].back());
      }
      CHECK(cache.live(0) == (t > 0) && cache.live(1) == (t > 1));
      live = static_cast<unsigned>(count);
    }
  }
  // 300 positions of the main path and about 20 of other paths; a block has 64 entries.
  CHECK(pool.bytes() <= 6 * 64 * 2 * layout.bytes(), "%zu", pool.bytes());
  std::vector<char*> taken;
  const size_t bytes = pool.bytes();
  while (pool.bytes() == bytes) taken.push_back(pool.Take());
  CHECK(taken.size() == bytes / (2 * layout.bytes()) + 1, "%zu", taken.size());  // all came back
}

TEST(EveryChunkIsDoneOnce) {
  ThreadPool pool(3);
  Random random(11);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    const int chunks = 1 + static_cast<int>(random() % 20);
    std::vector<int> done(chunks, 0), last(3, -1);
    pool.Run(chunks, [&](int thread, int chunk) {
      ++done[chunk];
      CHECK(last[thread] < chunk);
      last[thread] = chunk;
    });
    CHECK(std::count(done.begin(), done.end(), 1) == chunks);
  }
}

// Sentences are admitted later, reuse handles, and use other decoders.
TEST(SentencesComeAndGo) {
  TransformerConfig config = OddConfig();
  config.decoders = 2;
  config.tie_embeddings = false;
  const RandomModel random_model(config, 5);
  const auto model = random_model.Load(ComputeType::kInt8, Isas().back());
  Random random(6);
  Decoder decoder(model, 2), separate(model, 1);
  struct Running {
    int handle, decoder;
    std::vector<int32_t> source, target;
  };
  std::vector<Running> running;
  StepResult result;
  for (int t = 0; t < 30; ++t) {
    if (t % 3 == 0) {
      TokenBatch batch;
      const int which = t / 3 % 2;
      const size_t before = running.size();
      for (int n = 0; n < 2; ++n) {
        running.push_back({0, which, RandomIds(random, 1 + t % 7 + n, config.vocabulary_size), {}});
        batch.Add(running.back().source.data(), static_cast<int>(running.back().source.size()));
      }
      const auto handles = decoder.Admit(Encode(*model, decoder.context(), batch), which);
      for (size_t n = 0; n < 2; ++n) running[before + n].handle = handles[n];
    }
    std::vector<StepRow> rows;
    for (Running& r : running) {
      r.target.push_back(RandomIds(random, 1, config.vocabulary_size)[0]);
      rows.push_back({r.handle, t % 2, (t + 1) % 2, r.target.back(), {}});
    }
    StepOptions options;
    options.top = 5;
    options.all = true;
    decoder.Step(rows.data(), static_cast<int>(rows.size()), options, &result);
    for (size_t i = 0; i < rows.size(); ++i) {
      const float* all = result.all_logits.data() + i * config.vocabulary_size;
      for (int c = 0; c < 5; ++c) {
        CHECK(result.logits[i * 5 + c] == all[result.tokens[i * 5 + c]]);
      }
    }
    const size_t checked = random() % running.size();
    const Running& r = running[checked];
    const auto want = Forced(separate, r.source, r.target, r.decoder);
    CHECK(std::memcmp(want.data() + want.size() - config.vocabulary_size,
                      result.all_logits.data() + checked * config.vocabulary_size,
                      config.vocabulary_size * sizeof(float)) == 0,
          "step %d, sentence %zu", t, checked);
    if (running.size() > 6) {
      const size_t gone = random() % running.size();
      decoder.Release(running[gone].handle);
      running.erase(running.begin() + static_cast<ptrdiff_t>(gone));
    }
  }
}

TEST(ForbiddenTokensEditsWantedAndAttention) {
  const TransformerConfig config = OddConfig();
  const RandomModel random_model(config, 7);
  Decoder decoder(random_model.Load(ComputeType::kFloat32, Isas().back()), 1);
  Random random(8);
  const auto source = RandomIds(random, 9, config.vocabulary_size);
  TokenBatch batch;
  batch.Add(source.data(), 9);
  const int sentence = decoder.Admit(Encode(decoder.model(), decoder.context(), batch), 0)[0];
  std::vector<uint8_t> allowed(config.vocabulary_size, 0);
  for (int token : {5, 7, 100}) allowed[token] = 1;
  const auto bias = AllowedBias(allowed);
  const int32_t edited[] = {7};
  const float penalties[] = {0.0f};
  StepRow row{sentence, 0, 0, 1, {}};
  row.request.edits = {edited, penalties, 1};
  row.request.wanted = 100;
  StepOptions options;
  options.top = 4;
  options.bias = bias.data();
  options.attention_layer = 2;
  StepResult result;
  decoder.Step(&row, 1, options, &result);
  CHECK(result.tokens[0] + result.tokens[1] == 105);
  CHECK(result.tokens[2] == -1 && result.tokens[3] == -1);
  const double log_sum = result.log_sums[0];
  const double total = std::exp(result.logits[0] - log_sum) + std::exp(result.logits[1] - log_sum);
  CHECK(std::fabs(total - 1) < 1e-6, "%g", total);
  CHECK(result.wanted[0] == result.logits[result.tokens[0] == 100 ? 0 : 1]);
  CHECK(result.attention_stride == 9);
  double weight = 0;
  for (float w : result.attention) weight += w;
  CHECK(std::fabs(weight - 1) < 1e-5, "%g", weight);
}

template <class Call>
bool Rejected(Call call) {
  try {
    call();
  } catch (const InputError&) {
    return true;
  } catch (const ModelFileError&) {
    return true;
  }
  return false;
}

TEST(InvalidInputIsRejected) {
  TransformerConfig config = OddConfig();
  config.max_length = 4;
  RandomModel random_model(config, 9);
  const Isa isa = Isas().back();
  const auto model = random_model.Load(ComputeType::kFloat32, isa);
  Decoder decoder(model, 2);
  const auto encode = [&](std::vector<int32_t> ids) {
    TokenBatch batch;
    batch.Add(ids.data(), static_cast<int>(ids.size()));
    return Encode(*model, decoder.context(), batch);
  };
  CHECK(Rejected([&] { encode({1, 2, 3, 4, 5}); }));
  CHECK(Rejected([&] { encode({-1}); }));
  CHECK(Rejected([&] { encode({131}); }));
  CHECK(Rejected([&] { decoder.Admit(encode({}), 0); }));
  CHECK(Rejected([&] { decoder.Admit(encode({1}), 1); }));
  CHECK(Rejected([&] { decoder.Release(3); }));
  const int sentence = decoder.Admit(encode({1, 2}), 0)[0];
  StepResult result;
  const auto step = [&](StepRow row) { decoder.Step(&row, 1, {}, &result); };
  CHECK(Rejected([&] { step({sentence + 1, 0, 0, 1, {}}); }));
  CHECK(Rejected([&] { step({sentence, 2, 0, 1, {}}); }));
  CHECK(Rejected([&] { step({sentence, 0, 0, 131, {}}); }));
  step({sentence, 1, 0, 1, {}});
  CHECK(Rejected([&] { step({sentence, 0, 0, 1, {}}); }));  // beam 0 was not in the last step
  for (int t = 1; t < 4; ++t) step({sentence, 1, 1, 1, {}});
  CHECK(Rejected([&] { step({sentence, 1, 1, 1, {}}); }));  // beyond max_length
  CHECK(decoder.position(sentence) == 4);

  CHECK(Rejected([&] { Decoder(model, 0); }));
  const Tensor kept = random_model.tensors().at("decoder.0.final_norm.beta");
  random_model.tensors().erase("decoder.0.final_norm.beta");
  CHECK(Rejected([&] { random_model.Load(ComputeType::kInt8, isa); }));
  random_model.tensors()["decoder.0.final_norm.beta"] = kept;
  random_model.tensors()["decoder.0.final_norm.beta"].shape = {35};
  CHECK(Rejected([&] { random_model.Load(ComputeType::kInt8, isa); }));
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
