// The AMX kernels are bit-identical to the generic ones for every shape, access no memory outside
// their arrays (under AddressSanitizer), and cause no fault of a tile instruction. The tests run
// them twice: compiled from source for tile registers in software, which works on any machine, and
// as the machine code of the library, on the processor's tiles or those of amx_emulator.cc.
#include <algorithm>
#include <memory>
#include <utility>

#include "kernels/vec_generic.h"
// The vectors must come first.
#include "tests/software_tiles.h"

namespace keras_mtl {
namespace {
using AmxTiles = testing::SoftwareTiles;
}  // namespace
}  // namespace keras_mtl

#include "kernels/gemm_int8_amx.h"
#include "kernels/pack.h"
#include "kernels/table-inl.h"
#include "tests/harness.h"

namespace keras_mtl {
namespace {

using namespace testing;

constexpr KernelTable kSoftwareAmx = MakeTable(Isa::kAmx);

std::vector<const KernelTable*> AmxTables() {
  std::vector<const KernelTable*> tables = {&kSoftwareAmx};
  if (Isas().back() == Isa::kAmx) tables.push_back(&GetKernels(Isa::kAmx));
  return tables;
}

const char* Name(const KernelTable* table) {
  return table == &kSoftwareAmx ? "from source" : "machine code";
}

// int8 rows of floats, in arrays of exactly their size.
struct Rows {
  Rows(const KernelTable& kernels, const std::vector<float>& x, int count, int depth)
      : stride(RoundUp(depth, kDepthAlign)),
        count(count),
        data(new int8_t[static_cast<size_t>(count) * stride]),
        scales(new float[count]) {
    kernels.quantize_rows(x.data(), count, depth, depth, data.get(), scales.get());
  }
  Int8Rows view() const { return {data.get(), scales.get(), count, stride}; }

  int stride, count;
  std::unique_ptr<int8_t[]> data;
  std::unique_ptr<float[]> scales;
};

void CheckTilesAtRest(const char* where, int rows) {
  CHECK(SoftwareTiles::Faults() == 0, "%s, %d rows: %d faults", where, rows,
        SoftwareTiles::Faults());
  CHECK(!SoftwareTiles::Configured(), "%s, %d rows: tiles left configured", where, rows);
}

// Returns y with panels [first, last) computed; y is initialized with 0.25.
std::vector<float> Product(const KernelTable& kernels, const Rows& rows, const PackedInt8& weights,
                           int first, int last, Activation activation, Combine combine) {
  const int columns = weights.view().columns;
  std::vector<float> y(static_cast<size_t>(rows.count) * columns, 0.25f);
  kernels.gemm_int8(rows.view(), weights.view(), first, last,
                    {y.data(), columns, activation, combine});
  return y;
}

TEST(ProductsOfAnyNumberOfRowsAreTheGenericOnes) {
  Random random(1);
  const KernelTable& generic = GetKernels(Isa::kGeneric);
  struct {
    int columns, depth;
  } const layers[] = {{1, 1}, {64, 64}, {67, 63}, {131, 65}, {48, 129}, {127, 257}, {192, 128}};
  int next = 0;
  for (int count = 1; count <= 130; ++count) {
    const auto& s = layers[next++ % 7];
    const auto x = Normal(random, static_cast<size_t>(count) * s.depth);
    const auto w = Normal(random, static_cast<size_t>(s.columns) * s.depth);
    const auto bias = Normal(random, s.columns);
    const auto packed = [&](const KernelTable& kernels) {
      return PackedInt8::Quantize(w.data(), bias.data(), s.columns, s.depth, kernels);
    };
    const int panels = RoundUp(s.columns, kPanel) / kPanel;
    const auto activation = static_cast<Activation>(count % 4);
    const auto combine = static_cast<Combine>(count % 3);
    const int first = count % 5 == 0 ? panels - 1 : 0;
    const auto want = Product(generic, Rows(generic, x, count, s.depth), packed(generic), first,
                              panels, activation, combine);
    for (const KernelTable* amx : AmxTables()) {
      const auto got = Product(*amx, Rows(*amx, x, count, s.depth), packed(*amx), first, panels,
                               activation, combine);
      CHECK(SameBits(got, want), "%dx%dx%d, %s", count, s.columns, s.depth, Name(amx));
      CheckTilesAtRest("gemm_int8", count);
    }
  }
  CHECK(SoftwareTiles::Dots() > 0);
}

// Combines every split of rows into tiles with every remainder of columns and depth.
TEST(ProductsOfManyShapesAreTheGenericOnes) {
  Random random(2);
  const KernelTable& generic = GetKernels(Isa::kGeneric);
  for (int count : {1, 15, 16, 17, 31, 32, 33, 47, 48, 49}) {
    for (int columns : {1, 15, 17, 33, 63, 65, 97, 113}) {
      for (int depth : {3, 64, 127, 191}) {
        const auto x = Normal(random, static_cast<size_t>(count) * depth);
        const auto w = Normal(random, static_cast<size_t>(columns) * depth);
        const auto packed = [&](const KernelTable& kernels) {
          return PackedInt8::Quantize(w.data(), nullptr, columns, depth, kernels);
        };
        const int panels = RoundUp(columns, kPanel) / kPanel;
        const auto want = Product(generic, Rows(generic, x, count, depth), packed(generic), 0,
                                  panels, Activation::kNone, Combine::kStore);
        for (const KernelTable* amx : AmxTables()) {
          const auto got = Product(*amx, Rows(*amx, x, count, depth), packed(*amx), 0, panels,
                                   Activation::kNone, Combine::kStore);
          CHECK(SameBits(got, want), "%dx%dx%d, %s", count, columns, depth, Name(amx));
        }
      }
    }
    CheckTilesAtRest("gemm_int8", count);
  }
}

// Every 16 rows need four tile multiplications per panel and 64 of depth.
TEST(NoTileIsMultipliedTwice) {
  Random random(5);
  const int depth = 100, columns = 70;
  const auto w = Normal(random, static_cast<size_t>(columns) * depth);
  const PackedInt8 packed = PackedInt8::Quantize(w.data(), nullptr, columns, depth, kSoftwareAmx);
  for (int count : {1, 15, 16, 17, 32, 33, 48, 49}) {
    const auto x = Normal(random, static_cast<size_t>(count) * depth);
    SoftwareTiles::Dots() = 0;
    Product(kSoftwareAmx, Rows(kSoftwareAmx, x, count, depth), packed, 0, 2, Activation::kNone,
            Combine::kStore);
    CHECK(SoftwareTiles::Dots() == RoundUp(count, 16) / 16 * 4 * 2 * 2, "%d rows: %d", count,
          static_cast<int>(SoftwareTiles::Dots()));
  }
}

TEST(ProductsOfExtremesAreExact) {
  const int depth = 8192, count = 18, columns = 3;
  for (float x_value : {1.0f, -1.0f}) {
    for (int w_value : {127, -128}) {
      const std::vector<float> x(static_cast<size_t>(count) * depth, x_value);
      const std::vector<int8_t> w(static_cast<size_t>(columns) * depth,
                                  static_cast<int8_t>(w_value));
      const std::vector<float> ones(columns, 1.0f);
      const PackedInt8 packed(w.data(), ones.data(), nullptr, columns, depth, kSoftwareAmx);
      const Rows rows(kSoftwareAmx, x, count, depth);
      for (int r = 0; r < count; ++r) rows.scales[r] = 1.0f;
      for (float y :
           Product(kSoftwareAmx, rows, packed, 0, 1, Activation::kNone, Combine::kStore)) {
        CHECK(y == x_value * 127.0f * static_cast<float>(w_value) * depth, "%g", y);
      }
    }
  }
}

struct Projection {
  std::vector<Candidate> candidates;
  std::vector<float> logits, wanted, log_sums;
};

Projection Project(const KernelTable& kernels, const Rows& rows, const PackedInt8& weights,
                   const std::vector<float>& bias, int top) {
  const int count = rows.count, columns = weights.view().columns;
  const int padded = RoundUp(columns, kPanel);
  const int segments = RoundUp(padded / kPanel, kSegmentPanels) / kSegmentPanels;
  const int32_t edit_tokens[] = {0, columns / 3};
  const float penalties[] = {0.0f, 1.5f};
  Projection result;
  result.candidates.resize(static_cast<size_t>(count) * top);
  result.logits.resize(static_cast<size_t>(count) * padded);
  std::vector<LogitRow> logit_rows(count);
  std::vector<SegmentSum> sums(static_cast<size_t>(segments) * count);
  for (int r = 0; r < count; ++r) {
    LogitRow& row = logit_rows[r];
    row.top = top;
    row.wanted = r * 7 % columns;
    row.candidates = result.candidates.data() + static_cast<size_t>(r) * top;
    row.logits = result.logits.data() + static_cast<size_t>(r) * padded;
    row.edits.tokens = edit_tokens;
    row.edits.penalties = penalties;
    row.edits.count = columns > 3 ? 2 : 1;
    ProjectBegin(&row);
  }
  kernels.project_int8(rows.view(), weights.view(), bias.data(), 0, segments, logit_rows.data(),
                       sums.data());
  for (int r = 0; r < count; ++r) {
    result.wanted.push_back(logit_rows[r].wanted_logit);
    result.log_sums.push_back(kernels.log_sum_exp(sums.data() + r, segments, count));
  }
  return result;
}

TEST(ProjectionsAreTheGenericOnes) {
  Random random(3);
  const KernelTable& generic = GetKernels(Isa::kGeneric);
  const int shapes[][4] = {{1, 2, 5, 1},      {4, 61, 17, 8},    {8, 127, 64, 2},
                           {16, 2053, 33, 8}, {19, 4099, 40, 8}, {37, 509, 70, 4}};
  for (const auto& s : shapes) {
    const int count = s[0], columns = s[1], depth = s[2], top = s[3];
    const auto x = Normal(random, static_cast<size_t>(count) * depth);
    const auto w = Normal(random, static_cast<size_t>(columns) * depth);
    std::vector<float> bias(RoundUp(columns, kPanel), -__builtin_inff());
    std::fill_n(bias.begin(), columns, 0.0f);
    const auto packed = [&](const KernelTable& kernels) {
      return PackedInt8::Quantize(w.data(), nullptr, columns, depth, kernels);
    };
    const Projection want =
        Project(generic, Rows(generic, x, count, depth), packed(generic), bias, top);
    for (const KernelTable* amx : AmxTables()) {
      const Projection got = Project(*amx, Rows(*amx, x, count, depth), packed(*amx), bias, top);
      CHECK(SameBits(got.candidates, want.candidates) && SameBits(got.logits, want.logits) &&
                SameBits(got.wanted, want.wanted) && SameBits(got.log_sums, want.log_sums),
            "%dx%dx%d, top %d, %s", count, columns, depth, top, Name(amx));
      CheckTilesAtRest("project_int8", count);
    }
  }
}

// VNNI is the fastest for a single sentence with a beam of 4, even if the processor has AMX.
TEST(ProductsOfFewRowsNeedNoTiles) {
  if (BestIsa(GetCpuFeatures()) < Isa::kVnni) return;  // The AMX kernels need AVX-512.
  Random random(4);
  const KernelTable& generic = GetKernels(Isa::kGeneric);
  const KernelTable& amx = GetKernels(Isa::kAmx);
  const int columns = 131, depth = 70, top = 4;
  const auto w = Normal(random, static_cast<size_t>(columns) * depth);
  const auto packed = [&](const KernelTable& kernels) {
    return PackedInt8::Quantize(w.data(), nullptr, columns, depth, kernels);
  };
  const std::vector<float> bias(RoundUp(columns, kPanel));
  for (int count = 1; count <= 4; ++count) {
    const auto x = Normal(random, static_cast<size_t>(count) * depth);
    const Rows rows(amx, x, count, depth), generic_rows(generic, x, count, depth);
    CHECK(SameBits(Product(amx, rows, packed(amx), 0, 3, Activation::kGelu, Combine::kAdd),
                   Product(generic, generic_rows, packed(generic), 0, 3, Activation::kGelu,
                           Combine::kAdd)),
          "%d rows", count);
    CHECK(SameBits(Project(amx, rows, packed(amx), bias, top).log_sums,
                   Project(generic, generic_rows, packed(generic), bias, top).log_sums),
          "%d rows", count);
  }
}

// Without the emulator, the tests would not cover the machine code.
TEST(WithoutTilesTheMachineCodeIsEmulated) {
  if (Isas().back() != Isa::kAmx) return;  // It also uses AVX-512, which this machine lacks.
  Random random(6);
  const int count = 20, columns = 64, depth = 64;
  const KernelTable& amx = GetKernels(Isa::kAmx);
  const auto x = Normal(random, static_cast<size_t>(count) * depth);
  const auto w = Normal(random, static_cast<size_t>(columns) * depth);
  const PackedInt8 packed = PackedInt8::Quantize(w.data(), nullptr, columns, depth, amx);
  SoftwareTiles::Dots() = 0;
  Product(amx, Rows(amx, x, count, depth), packed, 0, 1, Activation::kNone, Combine::kStore);
  CHECK(SoftwareTiles::Dots() == (SoftwareTiles::Emulate() ? 8 : 0), "%d",
        static_cast<int>(SoftwareTiles::Dots()));
}

// The software tiles report everything that the processor would reject.
TEST(MisuseOfTilesIsFound) {
  const auto faults = [](auto run) {
    SoftwareTiles::Release();
    SoftwareTiles::Faults() = 0;
    run();
    SoftwareTiles::Release();
    return std::exchange(SoftwareTiles::Faults(), 0);
  };
  std::vector<int8_t> memory(1024);
  const auto configure = [](auto change) {
    TileConfig config = ConfigFor(16);
    change(config);
    SoftwareTiles::Configure(&config);
  };
  CHECK(faults([&] { configure([](TileConfig&) {}); }) == 0);
  CHECK(faults([&] { SoftwareTiles::Load<0>(memory.data(), 64); }) == 1);
  CHECK(faults([&] { SoftwareTiles::Store<0>(memory.data(), 64); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.palette = 2; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.start_row = 1; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.reserved[13] = 1; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.rows[2] = 17; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.row_bytes[7] = 68; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.rows[1] = 0; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.rows[8] = 16; }); }) == 1);
  CHECK(faults([&] { configure([](TileConfig& c) { c.row_bytes[8] = 64; }); }) == 1);
  const auto dot = [&](auto change) {
    return faults([&] {
      configure(change);
      SoftwareTiles::Dot<0, 4, 5>();
    });
  };
  CHECK(dot([](TileConfig&) {}) == 0);
  CHECK(dot([](TileConfig& c) { c.rows[0] = 3; }) == 1);
  CHECK(dot([](TileConfig& c) { c.row_bytes[4] = 60; }) == 1);
  CHECK(dot([](TileConfig& c) { c.row_bytes[5] = 32; }) == 1);
  CHECK(faults([&] {
          configure([](TileConfig&) {});
          SoftwareTiles::Dot<0, 0, 5>();
        }) == 1);
}

}  // namespace
}  // namespace keras_mtl

TEST_MAIN()
