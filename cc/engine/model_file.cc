#include "engine/model_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "engine/crc32.h"
#include "engine/errors.h"

namespace keras_mtl {
namespace {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files are little-endian and are read without conversion"
#endif

constexpr char kMagic[8] = {'K', 'M', 'T', 'L', 'M', 'O', 'D', 'L'};
// All versions have the same bytes. Files of version 2 have ranges of inputs, and those of version
// 3 have a vocabulary of the sources, which older engines ignore.
constexpr uint32_t kVersion = 3;
constexpr size_t kHeaderSize = 64;
constexpr size_t kAlignment = 64;  // A cache line and the widest vector register.
// Far above the number of tensors of any model. Bounds the time spent on a malicious count.
constexpr uint32_t kMaxEntries = 1 << 20;
constexpr size_t kMaxRank = 8;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t reserved;
  uint64_t file_size;
  uint64_t table_size;
  uint32_t hyperparameter_count;
  uint32_t tensor_count;
  uint32_t table_checksum;
  uint32_t reserved_2[4];
  uint32_t header_checksum;  // CRC-32 of the 60 bytes before it.
};
static_assert(sizeof(Header) == kHeaderSize, "the header has 64 bytes and no padding");

enum HyperparameterType : uint8_t {
  kInteger = 0,
  kReal = 1,
  kText = 2,
  kIntegers = 3,
  kTexts = 4,
};

size_t RoundUp(size_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; }

// Whether bytes are UTF-8 by RFC 3629: no overlong forms, no surrogates, at most U+10FFFF.
bool IsUtf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char first = text[i];
    size_t more = first < 0x80                    ? 0
                  : first >= 0xC2 && first < 0xE0 ? 1
                  : first >= 0xE0 && first < 0xF0 ? 2
                  : first >= 0xF0 && first < 0xF5 ? 3
                                                  : 4;
    if (more == 4 || text.size() - i <= more) return false;
    for (size_t j = 1; j <= more; ++j) {
      const unsigned char next = text[i + j];
      unsigned char low = 0x80, high = 0xBF;
      if (j == 1 && first == 0xE0) low = 0xA0;
      if (j == 1 && first == 0xED) high = 0x9F;
      if (j == 1 && first == 0xF0) low = 0x90;
      if (j == 1 && first == 0xF4) high = 0x8F;
      if (next < low || next > high) return false;
    }
    i += more + 1;
  }
  return true;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kInt8:
      return "int8";
    case DType::kUint8:
      return "uint8";
    case DType::kInt32:
      return "int32";
  }
  return "unknown";
}

size_t DTypeSize(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kInt32 ? 4 : 1; }

namespace {

// Reads the fields of the table one by one. Functions return false if the table ends in a field.
class Cursor {
 public:
  Cursor(const unsigned char* data, size_t size) : data_(data), left_(size) {}

  template <typename T>
  bool Take(T* value) {
    if (left_ < sizeof(T)) return false;
    std::memcpy(value, data_, sizeof(T));
    Skip(sizeof(T));
    return true;
  }

  template <typename Length>
  bool TakeText(std::string* text) {
    Length length;
    if (!Take(&length) || left_ < length) return false;
    text->assign(reinterpret_cast<const char*>(data_), length);
    Skip(length);
    return true;
  }

  size_t left() const { return left_; }

 private:
  void Skip(size_t count) {
    data_ += count;
    left_ -= count;
  }

  const unsigned char* data_;
  size_t left_;
};

bool IsName(const std::string& name) {
  if (name.empty()) return false;
  for (unsigned char c : name) {
    if (c < 0x21 || c > 0x7E) return false;
  }
  return true;
}

// Reads a hyperparameter's value. Returns false if it is malformed or the table ends in it.
bool TakeValue(Cursor* cursor, uint8_t type, Hyperparameter* value) {
  uint32_t count = 0;
  switch (type) {
    case kInteger: {
      int64_t integer;
      if (!cursor->Take(&integer)) return false;
      *value = integer;
      return true;
    }
    case kReal: {
      double real;
      if (!cursor->Take(&real)) return false;
      *value = real;
      return std::isfinite(real);
    }
    case kText: {
      std::string text;
      if (!cursor->TakeText<uint32_t>(&text)) return false;
      const bool valid = IsUtf8(text);
      *value = std::move(text);
      return valid;
    }
    case kIntegers: {
      if (!cursor->Take(&count) || count > cursor->left() / 8) return false;
      std::vector<int64_t> integers(count);
      for (int64_t& integer : integers) {
        if (!cursor->Take(&integer)) return false;
      }
      *value = std::move(integers);
      return true;
    }
    case kTexts: {
      if (!cursor->Take(&count) || count > cursor->left() / 4) return false;
      std::vector<std::string> texts(count);
      for (std::string& text : texts) {
        if (!cursor->TakeText<uint32_t>(&text) || !IsUtf8(text)) return false;
      }
      *value = std::move(texts);
      return true;
    }
  }
  return false;
}

}  // namespace

std::shared_ptr<const ModelFile> ModelFile::Open(const std::string& path, bool verify) {
  const auto fail = [&path](const char* what, const std::string& why) {
    throw ModelFileError(path + ": " + what + " (" + why +
                         "). Give a file written by `keras-mtl export --format engine`.");
  };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("the model file cannot be opened", std::strerror(errno));
  struct stat status;
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file);
    fail("the model file cannot be read", "it is not a regular file");
  }
  const size_t size = static_cast<size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {  // An empty file cannot be mapped; the header's check reports it.
    data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    if (data == MAP_FAILED) {
      const std::string why = std::strerror(errno);
      ::close(file);
      fail("the model file cannot be mapped", why);
    }
  }
  ::close(file);
  std::shared_ptr<ModelFile> result(new ModelFile(path, data, size, size > 0));
  result->Parse();
  if (verify) result->Verify();
  return result;
}

std::shared_ptr<const ModelFile> ModelFile::FromMemory(const void* data, size_t size,
                                                       const std::string& name, bool verify) {
  std::shared_ptr<ModelFile> result(new ModelFile(name, data, size, false));
  result->Parse();
  if (verify) result->Verify();
  return result;
}

ModelFile::ModelFile(const std::string& path, const void* data, size_t size, bool mapped)
    : path_(path), data_(static_cast<const unsigned char*>(data)), size_(size), mapped_(mapped) {}

ModelFile::~ModelFile() {
  if (mapped_) ::munmap(const_cast<unsigned char*>(data_), size_);
}

void ModelFile::Fail(const std::string& field, const std::string& problem) const {
  throw ModelFileError(path_ + ": " + field + ": " + problem +
                       ". The model file is damaged or incomplete: export it again.");
}

void ModelFile::Parse() {
  Header header;
  if (size_ < sizeof(header)) {
    Fail("header", "the file has " + std::to_string(size_) + " bytes, but a header has 64");
  }
  std::memcpy(&header, data_, sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    throw ModelFileError(path_ +
                         ": magic: this is not a model file of keras_mtl. Give a file written by "
                         "`keras-mtl export --format engine`.");
  }
  if (header.version < 1 || header.version > kVersion) {
    throw ModelFileError(
        path_ + ": version: the file has version " + std::to_string(header.version) +
        ", but this version of keras_mtl reads versions 1 to " + std::to_string(kVersion) +
        ". Export the model again, or install the keras_mtl that wrote it.");
  }
  format_version_ = header.version;
  if (header.header_checksum != Crc32(data_, sizeof(header) - 4)) {
    Fail("header_checksum", "the checksum does not match the header");
  }
  if (header.file_size != size_) {
    Fail("file_size", "the file has " + std::to_string(size_) + " bytes; expected " +
                          std::to_string(header.file_size));
  }
  if (header.reserved != 0 || header.reserved_2[0] != 0 || header.reserved_2[1] != 0 ||
      header.reserved_2[2] != 0 || header.reserved_2[3] != 0) {
    Fail("reserved", "a reserved field of the header is not 0");
  }
  if (header.table_size > size_ - sizeof(header)) {
    Fail("table_size", std::to_string(header.table_size) + " bytes extend beyond the file's end");
  }
  const unsigned char* table = data_ + sizeof(header);
  if (header.table_checksum != Crc32(table, header.table_size)) {
    Fail("table_checksum", "the checksum does not match the table");
  }
  if (header.hyperparameter_count > kMaxEntries) {
    Fail("hyperparameter_count", std::to_string(header.hyperparameter_count) +
                                     " exceeds the maximum of " + std::to_string(kMaxEntries));
  }
  if (header.tensor_count > kMaxEntries) {
    Fail("tensor_count", std::to_string(header.tensor_count) + " exceeds the maximum of " +
                             std::to_string(kMaxEntries));
  }
  Cursor cursor(table, header.table_size);
  for (uint32_t i = 0; i < header.hyperparameter_count; ++i) {
    const std::string field = "hyperparameter " + std::to_string(i);
    std::string name;
    if (!cursor.TakeText<uint16_t>(&name)) Fail(field, "the table ends inside its name");
    if (!IsName(name)) Fail(field, "its name is empty or not printable ASCII");
    uint8_t type;
    if (!cursor.Take(&type)) Fail(field + " " + name, "the table ends before its type");
    if (type > kTexts) Fail(field + " " + name, "unknown type " + std::to_string(type));
    Hyperparameter value;
    if (!TakeValue(&cursor, type, &value)) {
      Fail(field + " " + name, "its value is malformed or extends beyond the table");
    }
    if (!hyperparameters_.emplace(name, std::move(value)).second) {
      Fail(field + " " + name, "the name occurs twice");
    }
  }
  table_end_ = sizeof(header) + header.table_size;
  size_t end = RoundUp(table_end_);
  for (uint32_t i = 0; i < header.tensor_count; ++i) {
    std::string field = "tensor " + std::to_string(i);
    std::string name;
    if (!cursor.TakeText<uint16_t>(&name)) Fail(field, "the table ends inside its name");
    if (!IsName(name)) Fail(field, "its name is empty or not printable ASCII");
    field += " " + name;
    uint8_t dtype, rank;
    if (!cursor.Take(&dtype) || !cursor.Take(&rank)) Fail(field, "the table ends inside its entry");
    if (dtype > static_cast<uint8_t>(DType::kInt32)) {
      Fail(field, "unknown dtype " + std::to_string(dtype));
    }
    if (rank > kMaxRank) Fail(field, "rank " + std::to_string(rank) + " exceeds 8");
    Tensor tensor{static_cast<DType>(dtype), {}, nullptr, DTypeSize(static_cast<DType>(dtype)), 0};
    for (uint8_t axis = 0; axis < rank; ++axis) {
      uint64_t dimension;
      if (!cursor.Take(&dimension)) Fail(field, "the table ends inside its shape");
      // The product never exceeds the file's size, so it cannot overflow.
      if (dimension < 1 || dimension > size_ / tensor.bytes) {
        Fail(field, "dimension " + std::to_string(axis) + " of its shape is " +
                        std::to_string(dimension) + ", which does not fit the file's size");
      }
      tensor.bytes *= dimension;
      tensor.shape.push_back(static_cast<int64_t>(dimension));
    }
    uint64_t offset, length;
    if (!cursor.Take(&offset) || !cursor.Take(&length) || !cursor.Take(&tensor.checksum)) {
      Fail(field, "the table ends inside its entry");
    }
    if (length != tensor.bytes) {
      Fail(field, "length " + std::to_string(length) + " does not match dtype " +
                      DTypeName(tensor.dtype) + " and shape " + ShapeText(tensor.shape));
    }
    // Tensors are contiguous except for alignment padding, so they cannot overlap.
    if (offset != end) {
      Fail(field, "offset " + std::to_string(offset) + " should be " + std::to_string(end));
    }
    if (offset > size_ || length > size_ - offset) {
      Fail(field, "offset " + std::to_string(offset) + " and length " + std::to_string(length) +
                      " extend beyond the file's end");
    }
    tensor.data = data_ + offset;
    end = RoundUp(offset + length);
    if (!tensors_.emplace(name, std::move(tensor)).second) Fail(field, "the name occurs twice");
  }
  if (cursor.left() != 0) {
    Fail("table_size", std::to_string(cursor.left()) + " bytes follow the last entry");
  }
  if (end != size_) {
    Fail("file_size", "the last tensor ends at byte " + std::to_string(end) +
                          ", but the file ends at byte " + std::to_string(size_));
  }
}

void ModelFile::ReleasePages() const {
  // The mapping is read-only, so nothing is lost. If the system ignores the advice, only memory is.
  if (mapped_) madvise(const_cast<unsigned char*>(data_), size_, MADV_DONTNEED);
}

void ModelFile::Verify() const {
  std::map<size_t, size_t> used;  // Offset -> end, in the order of the file.
  used[0] = table_end_;
  for (const auto& [name, tensor] : tensors_) {
    if (Crc32(tensor.data, tensor.bytes) != tensor.checksum) {
      Fail("tensor " + name, "the checksum does not match its bytes");
    }
    const size_t offset = static_cast<const unsigned char*>(tensor.data) - data_;
    used[offset] = offset + tensor.bytes;
  }
  for (const auto& [begin, end] : used) {
    for (size_t i = end; i < RoundUp(end) && i < size_; ++i) {
      if (data_[i] != 0) Fail("padding", "byte " + std::to_string(i) + " is not 0");
    }
  }
}

const Tensor& ModelFile::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) Fail("tensor " + name, "it is missing");
  return found->second;
}

const Tensor& ModelFile::tensor(const std::string& name, DType dtype,
                                const std::vector<int64_t>& shape) const {
  const Tensor& found = tensor(name);
  if (found.dtype != dtype || found.shape != shape) {
    Fail("tensor " + name, std::string("it is ") + DTypeName(found.dtype) + " " +
                               ShapeText(found.shape) + "; expected " + DTypeName(dtype) + " " +
                               ShapeText(shape));
  }
  return found;
}

const Hyperparameter& ModelFile::hyperparameter(const std::string& name) const {
  const auto found = hyperparameters_.find(name);
  if (found == hyperparameters_.end()) Fail("hyperparameter " + name, "it is missing");
  return found->second;
}

template <typename T>
const T& ModelFile::Value(const std::string& name, const char* type) const {
  const T* value = std::get_if<T>(&hyperparameter(name));
  if (value == nullptr) Fail("hyperparameter " + name, std::string("it is not ") + type);
  return *value;
}

int64_t ModelFile::integer(const std::string& name, int64_t low, int64_t high) const {
  const int64_t value = Value<int64_t>(name, "an integer");
  if (value < low || value > high) {
    Fail("hyperparameter " + name, std::to_string(value) + " is not in [" + std::to_string(low) +
                                       ", " + std::to_string(high) + "]");
  }
  return value;
}

double ModelFile::real(const std::string& name) const { return Value<double>(name, "a real"); }

const std::string& ModelFile::text(const std::string& name) const {
  return Value<std::string>(name, "a text");
}

const std::vector<int64_t>& ModelFile::integers(const std::string& name) const {
  return Value<std::vector<int64_t>>(name, "a list of integers");
}

const std::vector<std::string>& ModelFile::texts(const std::string& name) const {
  return Value<std::vector<std::string>>(name, "a list of texts");
}

}  // namespace keras_mtl
