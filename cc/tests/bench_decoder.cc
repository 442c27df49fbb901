// Speed of Transformer base with random weights on one or more threads: encoder, decoder steps of
// all beams with random reordering, and memory. 25 source and 25 target tokens, beam 4, V = 32000.
// Usage: bench_decoder [int8|float32] [threads] [batch...]
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "engine/decoder.h"
#include "tests/random_model.h"

namespace keras_mtl {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// CPU seconds of all threads: what the clock would show on one thread of an idle machine.
double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void Bench(const std::shared_ptr<const Model>& model, int batch_size, int threads) {
  constexpr int kBeams = 4, kLength = 25;
  testing::Random random(1);
  Decoder decoder(model, kBeams, threads);
  double encode_time = 1e9, decode_time = 1e9, encode_cpu = 1e9, decode_cpu = 1e9;
  for (int repeat = 0; repeat < 3; ++repeat) {
    TokenBatch batch;
    for (int s = 0; s < batch_size; ++s) {
      int32_t ids[kLength];
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % 32000u);
      batch.Add(ids, kLength);
    }
    auto begin = Clock::now();
    double cpu = CpuSeconds();
    const auto handles = decoder.Admit(Encode(*model, decoder.context(), batch), 0);
    encode_time = std::min(encode_time, Seconds(begin));
    encode_cpu = std::min(encode_cpu, CpuSeconds() - cpu);
    begin = Clock::now();
    cpu = CpuSeconds();
    StepOptions options;
    options.top = 2 * kBeams;
    StepResult result;
    std::vector<StepRow> rows;
    for (int t = 0; t < kLength; ++t) {
      std::vector<StepRow> next;
      for (int s = 0; s < batch_size; ++s) {
        for (int b = 0; b < (t == 0 ? 1 : kBeams); ++b) {
          const int parent = t <= 1 ? 0 : static_cast<int>(random() % kBeams);
          const int32_t token =
              t == 0 ? 1 : result.tokens[(s * (t == 1 ? 1 : kBeams) + parent) * 8];
          next.push_back({handles[s], b, parent, token, {}});
        }
      }
      rows = next;
      decoder.Step(rows.data(), static_cast<int>(rows.size()), options, &result);
    }
    decode_time = std::min(decode_time, Seconds(begin));
    decode_cpu = std::min(decode_cpu, CpuSeconds() - cpu);
    for (int handle : handles) decoder.Release(handle);
  }
  const double tokens = static_cast<double>(batch_size) * kLength;
  std::printf(
      "%s %s threads %d batch %3d: %.0f target tokens/s; encoder %.2f ms (CPU %.2f), a decoder "
      "step "
      "%.2f ms (CPU %.2f), tokens a CPU second %.0f, decoder memory %.1f MB\n",
      IsaName(model->kernels().isa), model->compute() == ComputeType::kInt8 ? "int8" : "float32",
      threads, batch_size, tokens / (encode_time + decode_time), encode_time * 1e3,
      encode_cpu * 1e3, decode_time * 1e3 / kLength, decode_cpu * 1e3 / kLength,
      tokens / (encode_cpu + decode_cpu), static_cast<double>(decoder.memory_bytes()) * 1e-6);
}

}  // namespace
}  // namespace keras_mtl

int main(int argc, char** argv) {
  using namespace keras_mtl;
  TransformerConfig config{};
  config.vocabulary_size = 32000;
  config.hidden_dim = 512;
  config.num_heads = 8;
  config.intermediate_dim = 2048;
  config.encoder_layers = config.decoder_layers = 6;
  config.max_length = 256;
  config.decoders = 1;
  config.tie_embeddings = true;
  config.layer_norm_epsilon = 1e-6f;
  const bool int8 = argc < 2 || std::strcmp(argv[1], "float32") != 0;
  const int threads = argc < 3 ? 1 : std::max(1, std::atoi(argv[2]));
  const char* isa_name = std::getenv("KERAS_MTL_ISA");
  Isa isa = testing::Isas().back();
  for (Isa usable : testing::Isas()) {
    if (isa_name != nullptr && std::strcmp(isa_name, IsaName(usable)) == 0) isa = usable;
  }
  const testing::RandomModel random_model(config, 1);
  const auto begin = Clock::now();
  const auto model = random_model.Load(int8 ? ComputeType::kInt8 : ComputeType::kFloat32, isa);
  std::printf("quantize and pack: %.2f s\n", Seconds(begin));
  std::vector<int> batches;
  for (int i = 3; i < argc; ++i) batches.push_back(std::max(1, std::atoi(argv[i])));
  if (batches.empty()) batches = {1, 8, 32, 64};
  for (int batch : batches) Bench(model, batch, threads);
}
