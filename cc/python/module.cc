// keras_mtl._core: the Python bindings of the C++ library. keras_mtl/engine/library.py loads it.
#include <pybind11/pybind11.h>

#include "kernels/cpu_features.h"
#include "python/gil.h"
#include "python/modules.h"

namespace py = pybind11;

namespace {

py::dict CpuFeaturesDict() {
  const keras_mtl::CpuFeatures& features = keras_mtl::GetCpuFeatures();
  py::dict result;
  result["sse4.1"] = features.sse4_1;
  result["avx2"] = features.avx2;
  result["fma"] = features.fma;
  result["avx512f"] = features.avx512f;
  result["avx512bw"] = features.avx512bw;
  result["avx512vl"] = features.avx512vl;
  result["avx512_vnni"] = features.avx512_vnni;
  result["avx512_bf16"] = features.avx512_bf16;
  result["amx_int8"] = features.amx_int8;
  return result;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "C++ core of keras_mtl.";
  module.def(
      "version", [] { return KERAS_MTL_VERSION; },
      "Returns the version of the package that this module was built for.");
  module.def("cpu_features", &CpuFeaturesDict,
             "Returns {name: whether the processor and the operating system support it}.");
  module.def(
      "isa", [] { return keras_mtl::IsaName(keras_mtl::BestIsa(keras_mtl::GetCpuFeatures())); },
      "Returns the fastest instruction set of this machine: amx, vnni, avx2 or generic.");
  keras_mtl::RegisterGil();
  keras_mtl::RegisterErrors(module);
  keras_mtl::RegisterModelFile(module);
  keras_mtl::RegisterBeamSearch(module);
  keras_mtl::RegisterEngine(module);
  keras_mtl::RegisterTesting(module);
}
