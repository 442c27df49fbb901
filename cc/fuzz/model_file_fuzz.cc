// Fuzzer of reading model files and loading models (libFuzzer). The first byte of an input selects
// the compute type and whether checksums are repaired first: without repair, hardly any mutation
// would pass them. A model that loads must be able to translate.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "engine/crc32.h"
#include "engine/engine.h"
#include "engine/errors.h"
#include "engine/model_file.h"
#include "engine/transformer_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const bool repair = (data[0] & 1) != 0, verify = (data[0] & 2) != 0;
  const size_t length = size - 1;
  // A buffer of the exact size, so that AddressSanitizer detects an access one byte past its end.
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, length + (length == 0)) != 0) return 0;
  auto* copy = static_cast<uint8_t*>(memory);
  std::memcpy(copy, data + 1, length);
  if (repair && length >= 64) {
    const uint64_t file_size = length;
    std::memcpy(copy, "KMTLMODL\1\0\0\0\0\0\0\0", 16);
    std::memcpy(copy + 16, &file_size, 8);
    uint64_t table_size;
    std::memcpy(&table_size, copy + 24, 8);
    if (table_size <= length - 64) {
      const uint32_t table = keras_mtl::Crc32(copy + 64, table_size);
      std::memcpy(copy + 40, &table, 4);
    }
    std::memset(copy + 44, 0, 16);
    const uint32_t header = keras_mtl::Crc32(copy, 60);
    std::memcpy(copy + 60, &header, 4);
  }
  try {
    const auto file = keras_mtl::ModelFile::FromMemory(copy, length, "fuzz", verify);
    uint64_t sum = 0;
    for (const auto& [name, tensor] : file->tensors()) {
      for (size_t i = 0; i < tensor.bytes; ++i) sum += tensor.uint8()[i];
    }
    if (sum == 1) std::abort();  // Keeps the compiler from removing the loop.
    const auto config = keras_mtl::TransformerConfig::Read(*file);
    const auto compute =
        data[0] & 4 ? keras_mtl::ComputeType::kInt8 : keras_mtl::ComputeType::kFloat32;
    const auto model =
        keras_mtl::Model::Load(config, file->tensors(), compute, keras_mtl::Isa::kGeneric, file);
    keras_mtl::Engine engine(model, 1, 1);
    keras_mtl::TranslateRequest request;
    const int32_t ids[] = {config.vocabulary_size - 1, 0, config.eos_id};
    request.source.Add(ids, config.max_length < 3 ? config.max_length : 3);
    request.options.beam_size = 2;
    request.options.max_length = config.max_length < 4 ? config.max_length : 4;
    engine.Translate(request);
  } catch (const keras_mtl::ModelFileError&) {
  } catch (const keras_mtl::InputError&) {
  } catch (const keras_mtl::NotANumberError&) {
  }
  std::free(copy);
  return 0;
}
