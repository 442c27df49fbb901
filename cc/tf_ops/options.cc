#include "tf_ops/options.h"

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <locale>
#include <map>
#include <sstream>

#include "engine/errors.h"

namespace keras_mtl {
namespace {

[[noreturn]] void Fail(const std::string& name, const std::string& value) {
  throw InputError(name + "=" + value + ": the value is out of range or has the wrong type");
}

// Reads the whole of `text` as a number with a function of the C library.
template <typename T, typename Function>
T Number(const std::string& name, const std::string& text, Function read) {
  char* end = nullptr;
  errno = 0;
  const T value = read(text.c_str(), &end);
  if (text.empty() || *end != '\0' || errno == ERANGE) Fail(name, text);
  return value;
}

struct Reader {
  const std::string& name;
  const std::string& text;

  void operator()(double* field) const {
    // strtod is not used because its decimal separator depends on the locale.
    std::istringstream number(text);
    number.imbue(std::locale::classic());
    if (!(number >> *field) || number.peek() != std::istringstream::traits_type::eof()) {
      Fail(name, text);
    }
  }
  void operator()(int* field) const {
    const long long value = Number<long long>(
        name, text, [](const char* s, char** end) { return strtoll(s, end, 10); });
    if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
      Fail(name, text);
    }
    *field = static_cast<int>(value);
  }
  void operator()(uint64_t* field) const {
    if (text[0] == '-') Fail(name, text);
    *field = Number<unsigned long long>(
        name, text, [](const char* s, char** end) { return strtoull(s, end, 10); });
  }
  void operator()(bool* field) const {
    if (text != "0" && text != "1") Fail(name, text);
    *field = text == "1";
  }
  void operator()(LengthPenalty* field) const { *field = ParseLengthPenalty(text); }
  void operator()(std::vector<int32_t>* field) const {
    field->clear();
    std::istringstream ids(text);
    for (std::string id; std::getline(ids, id, ',');) {
      int token;
      Reader{name, id}(&token);
      field->push_back(token);
    }
  }
};

}  // namespace

BeamOptions ParseOptions(const std::string& text) {
  BeamOptions options;
  using Setter = std::function<void(const Reader&)>;
  const std::map<std::string, Setter> fields = {
#define KERAS_MTL_BEAM_OPTION(type, name, value) \
  {#name, [&options](const Reader& read) { read(&options.name); }},
#include "engine/beam_options.def"
#undef KERAS_MTL_BEAM_OPTION
  };
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const size_t equals = line.find('=');
    const std::string name = line.substr(0, equals);
    const auto field = fields.find(name);
    if (equals == std::string::npos || field == fields.end()) {
      throw InputError("'" + line +
                       "' is not a beam-search option: give lines of the form beam_size=4");
    }
    field->second(Reader{name, line.substr(equals + 1)});
  }
  return options;
}

std::string RequestedIsa() {
  const char* name = std::getenv("KERAS_MTL_ISA");
  return name != nullptr && *name != '\0' ? name : "auto";
}

absl::Status Guard(const std::function<void()>& body) {
  try {
    body();
    return absl::OkStatus();
  } catch (const InputError& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const ModelFileError& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const NotANumberError& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const InterruptedError& error) {
    return absl::CancelledError(error.what());
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("keras_mtl: out of memory");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace keras_mtl
