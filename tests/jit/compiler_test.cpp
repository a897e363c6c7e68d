#include "jit/compiler.h"

#include <gtest/gtest.h>

#include "jit/nvrtc.h"
#include "switchyard/error.h"
#include "tests/jit/support.h"

namespace switchyard::jit {
namespace {

/// Tests of the real compiler; skipped where none is installed.
class CompilerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (nvrtc().declines) GTEST_SKIP() << *nvrtc().declines;
  }

  static Binary compile(const Program& program,
                        std::span<const EmbeddedSource> table = test_sources()) {
    const auto start = std::chrono::steady_clock::now();
    Binary binary =
        nvrtc_compiler().compile(program, Sources::embedded(table).closure(program.file));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    RecordProperty("seconds", std::to_string(took.count()));
    return binary;
  }
};

TEST_F(CompilerTest, NameExpressionWithAConfigStruct) {
  const Binary binary = compile(scale_program());
  EXPECT_TRUE(
      binary.cubin.starts_with("\x7f"
                               "ELF"));
  EXPECT_TRUE(binary.symbol.starts_with("_ZN10switchyard5scale6kernel")) << binary.symbol;
  EXPECT_NE(binary.cubin.find(binary.symbol), std::string::npos);
  EXPECT_EQ(binary.warnings, "");
  EXPECT_EQ(binary.compiler, nvrtc().version);
}

TEST_F(CompilerTest, SameProgramSameBytes) {
  EXPECT_EQ(compile(scale_program()).cubin, compile(scale_program()).cubin);
  EXPECT_NE(compile(scale_program(256)).cubin, compile(scale_program(128)).cubin);
}

TEST_F(CompilerTest, Blackwell) {
  EXPECT_FALSE(compile(scale_program(256, "sm_100a")).cubin.empty());
}

TEST_F(CompilerTest, ResourcesShowLocalMemory) {
  const Resources scale = compile(scale_program()).resources;
  EXPECT_GT(scale.registers, 0);
  EXPECT_EQ(scale.stack_bytes, 0);
  EXPECT_EQ(scale.spill_bytes, 0);
  const Program stack = {"stack/kernel.cuh", "switchyard::stack::kernel", "sm_90a", {}};
  EXPECT_GE(compile(stack).resources.stack_bytes, 256);
  Program squeezed = scale_program();
  squeezed.options = {"-maxrregcount=16"};
  EXPECT_LE(compile(squeezed).resources.registers, 16);
  const Program tile = {"tile/kernel.cuh", "switchyard::tile::kernel<8, 64>", "sm_90a", {}};
  EXPECT_GE(compile(tile).resources.smem_bytes, 8 * 64);
}

TEST_F(CompilerTest, ErrorsNameOurFilesAndLines) {
  const std::vector<EmbeddedSource> table = {
      {"op/kernel.cuh", "#pragma once\n#include \"op/broken.cuh\"\n"},
      {"op/broken.cuh", "#pragma once\n\n__global__ void kernel() { undeclared(); }\n"}};
  try {
    compile({"op/kernel.cuh", "kernel", "sm_90a", {}}, table);
    FAIL();
  } catch (const DeviceError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("op/broken.cuh(3)"), std::string::npos) << text;
    EXPECT_NE(text.find("undeclared"), std::string::npos) << text;
  }
  EXPECT_THROW(compile(scale_program(256, "sm_1")), DeviceError);
  Program wrong = scale_program();
  wrong.instance = "switchyard::scale::kernel<switchyard::scale::Config{1, 2, 3}>";
  EXPECT_THROW(compile(wrong), DeviceError);
}

TEST_F(CompilerTest, WarningsAreKept) {
  const std::vector<EmbeddedSource> table = {
      {"op/kernel.cuh", "__global__ void kernel() { int unused; }\n"}};
  const Binary binary = compile({"op/kernel.cuh", "kernel", "sm_90a", {}}, table);
  EXPECT_NE(binary.warnings.find("unused"), std::string::npos) << binary.warnings;
  EXPECT_EQ(binary.warnings.find("ptxas"), std::string::npos) << binary.warnings;
}

TEST(Compiler, NoNvrtcIsASentence) {
  const std::filesystem::path candidates[] = {"/nonexistent/libnvrtc.so.13", "libm.so.6"};
  const OpenedNvrtc opened = open_nvrtc(candidates);
  ASSERT_TRUE(opened.declines);
  EXPECT_EQ(opened.version, "");
  EXPECT_NE(opened.declines->find("/nonexistent/libnvrtc.so.13"), std::string::npos);
  EXPECT_NE(opened.declines->find("SWITCHYARD_CACHE_DIR"), std::string::npos);
}

TEST(Compiler, ReadsPtxasStatistics) {
  EXPECT_EQ(
      parse_resources("ptxas info    : Function properties for f\n"
                      "ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 "
                      "bytes spill loads\n"
                      "ptxas info    : Used 168 registers, used 1 barriers, 1024 bytes smem\n"
                      "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes "
                      "spill loads\n"
                      "ptxas info    : Used 24 registers, 24 bytes cumulative stack size"),
      (Resources{.registers = 168, .stack_bytes = 24, .spill_bytes = 20, .smem_bytes = 1024}));
  EXPECT_EQ(parse_resources(""), Resources{});
}

TEST(Compiler, ArchitectureOfADevice) {
  EXPECT_EQ(architecture(90), "sm_90a");
  EXPECT_EQ(architecture(100), "sm_100a");
  EXPECT_EQ(architecture(89), "sm_89");
}

}  // namespace
}  // namespace switchyard::jit
