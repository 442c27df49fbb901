// Reads a model file: named arrays and hyperparameters. The file is mapped into memory, and every
// field is checked. docs/reference/engine_file.md describes the format;
// keras_mtl/engine/model_file.py writes it.
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

// A tensor in a model file. `data` is row-major, read-only, aligned to 64 bytes, and valid as long
// as the ModelFile exists.
struct Tensor {
  DType dtype;
  std::vector<int64_t> shape;  // At most 8 dimensions, each >= 1; empty for a scalar.
  const void* data;
  size_t bytes;
  uint32_t checksum;  // CRC-32 of the bytes, as recorded in the file.

  const float* float32() const { return static_cast<const float*>(data); }
  const int8_t* int8() const { return static_cast<const int8_t*>(data); }
  const uint8_t* uint8() const { return static_cast<const uint8_t*>(data); }
  const int32_t* int32() const { return static_cast<const int32_t*>(data); }
};

using Hyperparameter =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<std::string>>;

// An open model file. Thread-safe for reading; processes that open the same file share its memory.
// The file must not be truncated while it is open: the system kills a process that reads mapped
// bytes beyond the end of the file.
class ModelFile {
 public:
  // Maps a file. Always checks the header and the table; `verify` also compares the checksum of
  // every tensor.
  // Throws ModelFileError with the path and the field if the file cannot be read or is invalid.
  static std::shared_ptr<const ModelFile> Open(const std::string& path, bool verify = false);

  // The same for bytes in memory, aligned to 64, which must outlive the object. Messages use `name`
  // as the path.
  static std::shared_ptr<const ModelFile> FromMemory(const void* data, size_t size,
                                                     const std::string& name, bool verify);

  ~ModelFile();
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  // Releases the memory of the pages read so far; the system reads them again on demand.
  void ReleasePages() const;

  // Checks the checksum of every tensor and that the padding is zero. Throws ModelFileError.
  void Verify() const;

  // All of these throw ModelFileError if the name is missing or the type or shape differs.
  const Tensor& tensor(const std::string& name) const;
  const Tensor& tensor(const std::string& name, DType dtype,
                       const std::vector<int64_t>& shape) const;
  const Hyperparameter& hyperparameter(const std::string& name) const;
  // The value must be in [low, high].
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
