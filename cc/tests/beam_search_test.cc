// Beam search as the engine uses it: sentences that join late, and rows reduced to the best tokens.
#include "engine/beam_search.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/errors.h"
#include "tests/harness.h"

namespace keras_mtl {
namespace {

using testing::Random;

constexpr int kVocabulary = 23, kEos = 2;

// Logits that depend only on the sentence, the position and the newest token.
std::vector<float> Logits(const BeamSearch& search, const std::vector<int64_t>& names) {
  std::vector<float> outputs;
  for (const Row& row : search.rows()) {
    Random random(
        static_cast<uint32_t>(names[row.sentence] * 7919 + row.position * 31 + row.token));
    const std::vector<float> logits = testing::Normal(random, kVocabulary, 2.0f);
    outputs.insert(outputs.end(), logits.begin(), logits.end());
  }
  return outputs;
}

BeamOptions Options() {
  BeamOptions options;
  options.max_length = 12;
  options.num_hypotheses = 4;
  options.min_length = 2;
  options.suppress = {0, 5};
  options.no_repeat_ngram = 2;
  options.repetition_penalty = 1.3;
  return options;
}

bool Same(const std::vector<Hypothesis>& a, const std::vector<Hypothesis>& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(), [](const Hypothesis& x, const Hypothesis& y) {
        return x.ids == y.ids && x.score == y.score && x.token_scores == y.token_scores;
      });
}

std::vector<Hypothesis> FoundSeparately(int64_t name, std::vector<int32_t> prefix) {
  BeamSearch search(Options(), kVocabulary, 1, kEos);
  search.Add({name, 12, std::move(prefix), 0});
  while (!search.rows().empty()) search.Advance(Logits(search, {name}).data(), false);
  return search.results(0);
}

TEST(SentencesThatJoinLateGetTheSameResults) {
  BeamSearch search(Options(), kVocabulary, 1, kEos);
  std::vector<int64_t> names;
  std::vector<std::vector<int32_t>> prefixes;
  int step = 0;
  while (!search.rows().empty() || names.size() < 9) {
    while (names.size() < 9 && static_cast<int>(names.size()) <= step) {
      const auto name = static_cast<int64_t>(names.size()) + 100;
      prefixes.push_back(name % 3 == 0 ? std::vector<int32_t>{7, 9} : std::vector<int32_t>{});
      names.push_back(name);
      search.Add({name, 12, prefixes.back(), 0});
    }
    search.Advance(Logits(search, names).data(), false);
    ++step;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    CHECK(search.done(i) && !search.results(i).empty());
    CHECK(Same(search.results(i), FoundSeparately(names[i], prefixes[i])));
  }
}

TEST(BestTokensAndEditsGiveWhatWholeRowsGive) {
  for (int64_t name = 0; name < 40; ++name) {
    std::vector<int32_t> prefix;
    if (name % 2) prefix = {5, 8};
    BeamSearch search(Options(), kVocabulary, 1, kEos);
    search.Add({name, 12, prefix, 0});
    while (!search.rows().empty()) {
      const int rows = static_cast<int>(search.rows().size()), count = search.top_count();
      std::vector<float> logits = Logits(search, {name});
      std::vector<int32_t> tokens;
      std::vector<float> best, wanted;
      std::vector<Normalizer> normalizers;
      for (int i = 0; i < rows; ++i) {
        float* row = logits.data() + i * kVocabulary;
        ApplyEdits(search.Edits(i), row);
        if (search.rows()[i].forced < 0) {
          for (const int32_t token : search.options().suppress) {
            row[token] = -std::numeric_limits<float>::infinity();
          }
        }
        normalizers.push_back(Normalize(row, kVocabulary));
        wanted.push_back(search.wanted(i) >= 0 ? row[search.wanted(i)] : 0.0f);
        std::vector<int32_t> order(kVocabulary);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [row](int32_t a, int32_t b) { return row[a] > row[b]; });
        for (int j = 0; j < count; ++j) {
          tokens.push_back(order[j]);
          best.push_back(row[order[j]]);
        }
      }
      search.AdvanceTop({count, tokens.data(), best.data(), normalizers.data(), wanted.data()});
    }
    CHECK(Same(search.results(0), FoundSeparately(name, prefix)));
  }
}

TEST(ExponentialIsExact) {
  for (double x = 0; x > -760; x -= 0.3713) {
    const double want = std::exp(x);
    CHECK(std::fabs(Exp(x) - want) <= 1e-15 * want + 1e-320);
  }
  CHECK(Exp(0.0) == 1.0);
  CHECK(Exp(-std::numeric_limits<double>::infinity()) == 0.0);
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
