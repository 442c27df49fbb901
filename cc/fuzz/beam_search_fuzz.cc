// Fuzzer of beam search (libFuzzer): options, ids and the model's outputs are arbitrary.
#include <cstring>
#include <vector>

#include "engine/beam_search.h"
#include "engine/errors.h"

namespace {

// Reads values from the input; zeros after its end.
struct Input {
  const uint8_t* data;
  size_t left;

  template <typename T>
  T Take() {
    T value{};
    const size_t count = left < sizeof(T) ? left : sizeof(T);
    std::memcpy(&value, data, count);
    data += count;
    left -= count;
    return value;
  }

  // Usually a small number, sometimes any number.
  int Small() {
    const auto byte = Take<uint8_t>();
    return byte == 255 ? Take<int32_t>() : static_cast<int>(byte % 16) - 1;
  }
  double Real() {
    const auto byte = Take<uint8_t>();
    return byte == 255 ? Take<double>() : byte / 16.0;
  }
  std::vector<int32_t> Ids() {
    std::vector<int32_t> ids(Take<uint8_t>() % 4);
    for (int32_t& id : ids) id = Small();
    return ids;
  }

  void Fill(int* value) { *value = Small(); }
  // A number in the range of probabilities as often as a larger one.
  void Fill(double* value) { *value = Take<uint8_t>() & 1 ? Real() : Real() / 16; }
  void Fill(bool* value) { *value = Take<uint8_t>() & 1; }
  void Fill(uint64_t* value) { *value = Take<uint64_t>(); }
  void Fill(std::vector<int32_t>* value) { *value = Ids(); }
  void Fill(keras_mtl::LengthPenalty* value) {
    *value = static_cast<keras_mtl::LengthPenalty>(Take<uint8_t>() % 5);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input{data, size};
  keras_mtl::BeamOptions o;
#define KERAS_MTL_BEAM_OPTION(type, name, value) input.Fill(&o.name);
#include "engine/beam_options.def"
#undef KERAS_MTL_BEAM_OPTION
  const bool logs = input.Take<uint8_t>() & 1, keep = input.Take<uint8_t>() & 1;
  const int vocabulary_size = input.Take<uint8_t>() % 16;
  const int32_t eos = input.Small();
  if (o.max_length > 1000) return 0;  // Valid, but costs too much time and memory.
  try {
    keras_mtl::BeamSearch search(o, vocabulary_size, 1, eos, input.Ids(), keep);
    const int sentences = input.Take<uint8_t>() % 4;
    const auto add = [&] {
      keras_mtl::Sentence sentence;
      sentence.index = input.Small();
      sentence.max_length = input.Small();
      sentence.prefix = input.Ids();
      sentence.source_length = input.Take<uint8_t>() % 4;
      sentence.bias = input.Ids();
      search.Add(sentence);
    };
    for (int i = 0; i < sentences; ++i) add();
    std::vector<float> outputs, attention;
    while (!search.rows().empty()) {
      const size_t rows = search.rows().size();
      outputs.resize(rows * vocabulary_size);
      for (float& value : outputs) {
        const auto byte = input.Take<uint8_t>();
        value = byte == 255   ? input.Take<float>()
                : byte == 254 ? -1.0f / 0.0f
                              : -(byte % 32) / 8.0f;
      }
      attention.assign(rows * 3, 0.25f);
      try {
        search.Advance(outputs.data(), logs, {attention.data(), 3});
      } catch (const keras_mtl::NotANumberError&) {
        for (size_t i = 0; i < rows; ++i) search.Edits(static_cast<int>(i));
        search.Advance(outputs.data(), logs, {attention.data(), 3});
        __builtin_trap();  // A failed search must reject further steps.
      }
      if (input.left > 0 && input.Take<uint8_t>() % 16 == 0) add();
    }
    for (int i = 0; i < search.sentences(); ++i) {
      if (!search.done(i)) __builtin_trap();
      const auto& found = search.results(i);
      for (size_t n = 1; n < found.size(); ++n) {
        if (found[n - 1].score < found[n].score) __builtin_trap();
      }
    }
  } catch (const keras_mtl::InputError&) {
  } catch (const keras_mtl::NotANumberError&) {
  }
  return 0;
}
