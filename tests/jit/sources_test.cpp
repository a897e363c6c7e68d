#include "jit/sources.h"

#include <gtest/gtest.h>

#include "switchyard/error.h"
#include "tests/jit/support.h"

namespace switchyard::jit {
namespace {

const std::vector<EmbeddedSource> kTable = {
    {"op/kernel.cuh",
     "#pragma once\n#include \"op/shared.cuh\"\n  #  include \t\"device/a.cuh\"\n"},
    {"op/shared.cuh", "#include \"device/a.cuh\"\nstruct Args {};\n"},
    {"device/a.cuh", "// #include \"nothing\"\n#include \"device/b.cuh\""},
    {"device/b.cuh", "#include \"device/a.cuh\"  // a circle, as #pragma once allows\n"},
    {"device/unused.cuh", ""},
};

Digest digest_with(std::string_view path, std::string_view text) {
  std::vector<EmbeddedSource> table = kTable;
  for (EmbeddedSource& source : table)
    if (source.path == path) source.text = text;
  return Sources::embedded(table).closure("op/kernel.cuh").digest;
}

TEST(Sources, FollowsIncludesOnceEach) {
  const Closure closure = Sources::embedded(kTable).closure("op/kernel.cuh");
  std::vector<std::string> paths;
  for (const SourceFile& file : closure.files) paths.push_back(file.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"device/a.cuh", "device/b.cuh", "op/kernel.cuh",
                                             "op/shared.cuh"}));
}

TEST(Sources, DigestCoversEveryFileOfTheClosureAndNoOther) {
  const Digest digest = Sources::embedded(kTable).closure("op/kernel.cuh").digest;
  EXPECT_NE(digest, digest_with("op/kernel.cuh", "#include \"op/shared.cuh\"\n"));
  EXPECT_NE(digest, digest_with("op/shared.cuh", "#include \"device/a.cuh\"\nstruct Args;\n"));
  EXPECT_NE(digest, digest_with("device/b.cuh", "// two includes away\n"));
  EXPECT_EQ(digest, digest_with("device/unused.cuh", "// edited\n"));
}

TEST(Sources, DirectoryGivesTheSameDigestAsTheTable) {
  const TemporaryFolder folder;
  for (const EmbeddedSource& source : kTable) {
    std::filesystem::create_directories((folder.path() / source.path).parent_path());
    spill(folder.path() / source.path, source.text);
  }
  EXPECT_EQ(Sources::directory(folder.path()).closure("op/kernel.cuh").digest,
            Sources::embedded(kTable).closure("op/kernel.cuh").digest);
}

TEST(Sources, MissingFileNamesTheLineThatIncludesIt) {
  const std::vector<EmbeddedSource> table = {{"a.cuh", "\n\n#include \"gone.cuh\"\n"}};
  try {
    Sources::embedded(table).closure("a.cuh");
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("gone.cuh"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("a.cuh:3"), std::string::npos) << error.what();
  }
  EXPECT_THROW(Sources::directory("/nonexistent").closure("a.cuh"), InvalidArgument);
}

TEST(Sources, EmbeddedTextIsTheFile) {
  for (const EmbeddedSource& source : test_sources())
    EXPECT_EQ(source.text, slurp(std::string(SWITCHYARD_SOURCE_DIR "/tests/jit/kernels/") +
                                 std::string(source.path)));
}

}  // namespace
}  // namespace switchyard::jit
