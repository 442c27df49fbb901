// Reads a model file: named arrays and hyperparameters, mapped into memory, every field checked.
// The format is described in docs/reference/engine_file.md; keras_mtl/export/engine_file.py writes
// it.
#ifndef KERAS_MTL_ENGINE_MODEL_FILE_H_
#define KERAS_MTL_ENGINE_MODEL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace keras_mtl {

enum class DType : uint8_t { kFloat32 = 0, kInt8 = 1, kUint8 = 2, kInt32 = 3 };

// "float32", "int8", "uint8" or "int32".
const char* DTypeName(DType dtype);
size_t DTypeSize(DType dtype);

// A tensor inside a model file. `data` is aligned to 64 bytes, row-major, read-only, and lives as
// long as the ModelFile.
struct Tensor {
  DType dtype;
  std::vector<int64_t> shape;  // Each >= 1; at most 8 of them; none for a scalar.
  const void* data;
  size_t bytes;
  uint32_t checksum;  // CRC-32 of the bytes, as the file has it.

  const float* float32() const { return static_cast<const float*>(data); }
  const int8_t* int8() const { return static_cast<const int8_t*>(data); }
  const uint8_t* uint8() const { return static_cast<const uint8_t*>(data); }
  const int32_t* int32() const { return static_cast<const int32_t*>(data); }
};

using Hyperparameter =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<std::string>>;

// An opened model file. Safe to read from many threads; processes that open the same file share its
// memory. The file must not be cut off while it is open: the system ends a process that reads
// mapped bytes which are gone.
class ModelFile {
 public:
  // Maps a file. The header and the table are always checked; `verify` also reads every tensor and
  // compares its checksum.
  // Throws ModelFileError: it cannot be read, or a field is wrong; the message names both.
  static std::shared_ptr<const ModelFile> Open(const std::string& path, bool verify = false);

  // The same for bytes in memory, aligned to 64, which must outlive the object. `name` stands for
  // the path in messages.
  static std::shared_ptr<const ModelFile> FromMemory(const void* data, size_t size,
                                                     const std::string& name, bool verify);

  ~ModelFile();
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  // Gives the memory of what has been read back to the system, which reads it again where needed.
  void ReleasePages() const;

  // Reads every tensor, and the padding between them, and compares. Throws ModelFileError.
  void Verify() const;

  // All throw ModelFileError where the name is missing, or the type or shape is another.
  const Tensor& tensor(const std::string& name) const;
  const Tensor& tensor(const std::string& name, DType dtype,
                       const std::vector<int64_t>& shape) const;
  const Hyperparameter& hyperparameter(const std::string& name) const;
  // `low` and `high` are the range that is allowed, both included.
  int64_t integer(const std::string& name, int64_t low, int64_t high) const;
  double real(const std::string& name) const;  // Finite.
  const std::string& text(const std::string& name) const;
  const std::vector<int64_t>& integers(const std::string& name) const;
  const std::vector<std::string>& texts(const std::string& name) const;

  bool has_tensor(const std::string& name) const { return tensors_.count(name) > 0; }
  bool has_hyperparameter(const std::string& name) const {
    return hyperparameters_.count(name) > 0;
  }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, Hyperparameter>& hyperparameters() const { return hyperparameters_; }
  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  uint32_t format_version() const { return format_version_; }

 private:
  ModelFile(const std::string& path, const void* data, size_t size, bool mapped);
  void Parse();
  template <typename T>
  const T& Value(const std::string& name, const char* type) const;
  [[noreturn]] void Fail(const std::string& field, const std::string& problem) const;

  std::string path_;
  const unsigned char* data_;
  size_t size_;
  bool mapped_;
  uint32_t format_version_ = 0;
  size_t table_end_ = 0;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, Hyperparameter> hyperparameters_;
};

}  // namespace keras_mtl

#endif  // KERAS_MTL_ENGINE_MODEL_FILE_H_
