// Speed and memory of the engine on a model file: random sources of 25 tokens, 25 target tokens,
// beam 4. `python benchmarks/decode.py --prepare --directory F` writes a file of random weights.
// Usage: bench_engine FILE [workers] [threads] [batch...]
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>

#include "engine/engine.h"
#include "tests/harness.h"

namespace keras_mtl {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// CPU seconds of all threads.
double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int ResidentMegabytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int kilobytes = 0;
  while (status >> word && word != "VmRSS:") continue;
  status >> kilobytes;
  return kilobytes / 1024;
}

void Bench(Engine& engine, int batch) {
  constexpr int kLength = 25;
  testing::Random random(1);
  TranslateRequest request;
  const int sentences = engine.workers() * std::max(2 * batch, 4);
  for (int s = 0; s < sentences; ++s) {
    int32_t ids[kLength];
    const auto text = static_cast<unsigned>(engine.config().vocabulary_size - 5);
    for (int32_t& id : ids) id = 5 + static_cast<int32_t>(random() % text);
    ids[kLength - 1] = engine.config().eos_id;
    request.source.Add(ids, kLength);
  }
  request.options.min_length = request.options.max_length = kLength;
  request.max_batch_size = batch;
  double best = 1e9, best_cpu = 1e9;
  for (int repeat = 0; repeat < 4; ++repeat) {
    const auto begin = Clock::now();
    const double cpu = CpuSeconds();
    engine.Translate(request);
    best = std::min(best, Seconds(begin));
    best_cpu = std::min(best_cpu, CpuSeconds() - cpu);
  }
  const double tokens = static_cast<double>(sentences) * kLength;
  std::printf("batch %3d: %5.0f target tokens/s, %5.0f per CPU second; %d MB resident\n", batch,
              tokens / best, tokens / best_cpu, ResidentMegabytes());
}

}  // namespace
}  // namespace keras_mtl

int main(int argc, char** argv) {
  using namespace keras_mtl;
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_engine FILE [workers] [threads] [batch...]\n");
    return 2;
  }
  EngineOptions options;
  if (argc > 2) options.workers = std::atoi(argv[2]);
  if (argc > 3) options.threads = std::atoi(argv[3]);
  if (const char* isa = std::getenv("KERAS_MTL_ISA")) options.isa = isa;
  const auto begin = Clock::now();
  const auto engine = Engine::Open(argv[1], options);
  std::printf("%s, %d x %d, loaded in %.2f s, %d MB resident\n",
              IsaName(engine->model().kernels().isa), engine->workers(), engine->threads(),
              Seconds(begin), ResidentMegabytes());
  std::vector<int> batches;
  for (int i = 4; i < argc; ++i) batches.push_back(std::max(1, std::atoi(argv[i])));
  if (batches.empty()) batches = {1, 8, 32, 64};
  for (int batch : batches) Bench(*engine, batch);
}
