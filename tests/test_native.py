"""The C++ core: it is built, of this version, and the instruction set is chosen as asked."""

import platform

import pytest

import keras_mtl
from keras_mtl.engine import NativeError, library


def test_core_is_of_this_version():
    assert library.is_available()
    assert library.core().version() == keras_mtl.__version__


def test_features_are_those_the_kernel_reports():
    """CPUID read by us against CPUID read by Linux."""
    if platform.machine() != "x86_64":
        assert not any(library.cpu_features().values())
        return
    with open("/proc/cpuinfo") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    names = {"sse4.1": "sse4_1"}
    features = library.cpu_features()
    for feature, has in features.items():
        flag = names.get(feature, feature)
        if feature == "amx_int8" and not has:
            continue  # The kernel may refuse the tile registers to a process.
        assert has == (flag in flags), feature


def test_best_isa_follows_from_the_features():
    features = library.cpu_features()
    best = library.core().isa()
    assert best in library.ISAS
    assert (best == "generic") == (not (features["avx2"] and features["fma"]))
    if best in ("vnni", "amx"):
        assert features["avx512_vnni"]
    assert (best == "amx") == (features["amx_int8"] and features["avx512_vnni"])


def test_every_slower_isa_can_be_asked_for(monkeypatch):
    best = library.core().isa()
    for isa in library.ISAS[: library.ISAS.index(best) + 1]:
        monkeypatch.setenv("KERAS_MTL_ISA", isa)
        assert library.isa() == isa
    monkeypatch.delenv("KERAS_MTL_ISA")
    assert library.isa() == best


def test_unknown_isa_names_the_nearest(monkeypatch):
    monkeypatch.setenv("KERAS_MTL_ISA", "avx")
    with pytest.raises(NativeError, match=r"KERAS_MTL_ISA='avx'.*did you mean 'avx2'"):
        library.isa()


def test_isa_that_the_machine_lacks():
    with pytest.raises(NativeError, match=r"amx: this machine.*generic, avx2"):
        library.choose_isa("amx", "avx2")


def test_core_of_another_version():
    with pytest.raises(NativeError, match=r"x\.so: .*built for keras_mtl 9\.9.*Build it"):
        library.check_version("9.9", "x.so")


def test_missing_core_says_how_to_build_it(run_python):
    code = (
        "import sys\n"
        "sys.modules['keras_mtl._core'] = None\n"  # An import of it fails as of a missing file.
        "from keras_mtl.engine import library\n"
        "assert not library.is_available()\n"
        "library.core()\n"
    )
    done = run_python(code)
    assert "the C++ core keras_mtl._core is not built. Build it with `make`" in done.stderr
