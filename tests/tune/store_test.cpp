#include "tune/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "switchyard/error.h"
#include "tests/jit/support.h"
#include "tests/tune/support.h"

namespace switchyard::tune {
namespace {

using jit::TemporaryFolder;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Source = Table::Source;

Row older(Row row) {
  row.place.kernels = "older";
  return row;
}

std::string lines_of(const std::vector<Row>& rows) {
  std::string text;
  for (const Row& row : rows) text += to_line(row) + "\n";
  return text;
}

class TuningStore : public testing::Test {
 protected:
  std::string config() const {
    const auto found = table_.find(key_at(8));
    return found ? found->config + (found->stale       ? ", stale"
                                    : found->remeasure ? ", again"
                                                       : "")
                 : "none";
  }

  /// The only sentence about a text of one line.
  std::string sentence(std::string_view line) {
    lines_.clear();
    table_.add_text(line, "mine.jsonl", Source::user);
    EXPECT_EQ(lines_.size(), 1U) << line;
    return lines_.empty() ? "" : lines_[0];
  }

  std::vector<std::string> lines_;
  Table table_{here(), [this](std::string_view line) { lines_.emplace_back(line); }};
  TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_.path() / "tuning.jsonl";
};

TEST_F(TuningStore, ARowIsALine) {
  Row row = row_at(8, "fused block 8, \"quoted\" \n", 12.25);
  row.costs[2] = {0.1, 0};
  EXPECT_EQ(parse_row(to_line(row)), row);
  EXPECT_EQ(to_line(row).find('\n'), std::string::npos);
  EXPECT_EQ(
      to_line(row_at(8, "a", 2)),
      R"({"config":"a","device":"NVIDIA H200, sm_90","kernels":"abc","median_us":{"balanced":2.0,"hot":2.0,)"
      R"("zipf":2.0},"problem":")" +
          key_at(8) +
          R"(","spread_us":{"balanced":1.0,"hot":1.0,"zipf":1.0},)"
          R"("switchyard_tuning":1,"versions":{"driver":"580","nvrtc":"13.0"}})");
}

TEST_F(TuningStore, TheUsersFileWins) {
  EXPECT_EQ(config(), "none");
  table_.add(older(row_at(8, "old shipped", 1)), Source::shipped);
  EXPECT_EQ(config(), "old shipped, stale");
  table_.add(older(row_at(8, "old user", 5)), Source::user);
  EXPECT_EQ(config(), "old user, stale");
  table_.add(row_at(8, "shipped", 6), Source::shipped);
  EXPECT_EQ(config(), "shipped");
  table_.add(row_at(8, "user", 7), Source::user);
  EXPECT_EQ(config(), "user");
}

TEST_F(TuningStore, OtherDevicesAndProblemsAreOthers) {
  Row other = row_at(8, "a", 1);
  other.place.device = "NVIDIA H100, sm_90";
  table_.add_text(to_line(other), "shipped", Source::shipped);
  table_.add(row_at(16, "a", 1));
  EXPECT_EQ(config(), "none");
  EXPECT_TRUE(lines_.empty());
}

TEST_F(TuningStore, OtherVersionsAreMeasuredAgainAndServeMeanwhile) {
  const auto of_driver = [](Row row, const char* driver) {
    row.place.versions["driver"] = driver;
    return row;
  };
  table_.add(of_driver(row_at(8, "shipped elsewhere", 1), "570"), Source::shipped);
  EXPECT_EQ(config(), "shipped elsewhere, again");
  table_.add(row_at(8, "shipped", 1), Source::shipped);
  EXPECT_EQ(config(), "shipped");
  table_.add(of_driver(row_at(8, "mine", 2), "570"), Source::user);
  EXPECT_EQ(config(), "mine, again");
}

TEST_F(TuningStore, EveryVersionCounts) {
  Row row = row_at(8, "a", 1);
  row.place.versions.erase("nvrtc");
  table_.add(row);
  EXPECT_EQ(config(), "a, again");
}

TEST_F(TuningStore, KeysInOrder) {
  table_.add(row_at(16, "a", 1));
  table_.add(row_at(8, "a", 1));
  EXPECT_THAT(table_.keys(), ElementsAre(key_at(16), key_at(8)));
}

TEST_F(TuningStore, EveryOrderOfTheRanksRowsGivesTheSamePick) {
  // 99.6 and 100 are within noise of each other, and "popular" is what more ranks picked.
  std::vector<Row> rows = {row_at(8, "popular", 100), row_at(8, "popular", 101),
                           row_at(8, "fast", 99.6),   row_at(8, "lucky", 110),
                           row_at(8, "lucky", 120),   row_at(8, "lucky", 20)};
  std::mt19937 random(7);
  for (int i = 0; i < 50; ++i) {
    std::shuffle(rows.begin(), rows.end(), random);
    Table table(here(), {});
    const std::string text = lines_of(rows);
    const std::size_t cut = text.find('\n', text.size() / 2) + 1;
    table.add_text(text.substr(0, cut), "rank 0", Source::user);
    table.add_text(text.substr(cut), "rank 1", Source::user);
    EXPECT_EQ(table.find(key_at(8))->config, "popular");
    EXPECT_EQ(table.find(key_at(8))->costs[0].median_us, 100.5);
  }
}

TEST_F(TuningStore, DamagedAndForeignLinesCostASentenceEach) {
  const std::string good = to_line(row_at(8, "a", 1));
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string line = good;
    const std::size_t at = line.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return line.replace(at, from.size(), to);
  };
  EXPECT_EQ(sentence(good.substr(0, 50)),
            "[tune] mine.jsonl:1 is skipped: it is no JSON: cut short or damaged.");
  EXPECT_THAT(sentence(std::string("\0\xff\x80{", 4)), HasSubstr("no JSON"));
  EXPECT_THAT(sentence(R"({"problem": "moe", "median_us": 3})"), HasSubstr("no line of a tuning"));
  EXPECT_THAT(sentence("[1, 2]"), HasSubstr("no line of a tuning"));
  EXPECT_THAT(sentence(std::string(100000, '[')), HasSubstr("100000 bytes long"));
  EXPECT_THAT(sentence(with("tuning\":1", "tuning\":2")), HasSubstr("its format is 2"));
  EXPECT_THAT(sentence(with("\"config\":\"a\"", "\"config\":7")), HasSubstr("another type"));
  EXPECT_THAT(sentence(with("\"config\":\"a\",", "")), HasSubstr("a field is missing"));
  EXPECT_THAT(sentence(with("\"config\":\"a\"", "\"config\":\"\"")), HasSubstr("no config"));
  EXPECT_THAT(sentence(with("NVIDIA H200, sm_90", "")), HasSubstr("no device"));
  EXPECT_THAT(sentence(with("\"hot\":1.0", "\"hot\":-1.0")), HasSubstr("median_us under hot load"));
  EXPECT_THAT(sentence(with("\"hot\":1.0", "\"hot\":1e999")), HasSubstr("skipped"));
  EXPECT_THAT(sentence(with("\"hot\":1.0,", "")), HasSubstr("'hot' not found"));
  EXPECT_THAT(sentence(with(" k8", " k900")), HasSubstr("not known here"));
  EXPECT_THAT(sentence(with("moe t8", "moe t9")),
              AllOf(HasSubstr("is no key"), HasSubstr("moe t8 ")));
  EXPECT_EQ(config(), "none");
  // And they spoil no line around them.
  lines_.clear();
  table_.add_text("rubbish\n\n" + good + "\r\n{}", "mine.jsonl", Source::user);
  EXPECT_EQ(config(), "a");
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("jsonl:1 is"), HasSubstr("jsonl:4 is")));
}

TEST_F(TuningStore, EveryCutOfAFile) {
  const std::string text = lines_of({row_at(8, "a", 1), row_at(16, "b", 1)});
  for (std::size_t size = 0; size < text.size(); ++size) {
    Table table(here(), {});
    table.add_text(std::string_view(text).substr(0, size), "cut", Source::user);
    const std::size_t first = text.find('\n');
    EXPECT_EQ(table.find(key_at(8)).has_value(), size >= first) << size;
    EXPECT_EQ(table.find(key_at(16)).has_value(), size + 1 >= text.size()) << size;
  }
}

TEST_F(TuningStore, AppendTakesRowsOnly) {
  EXPECT_THROW(append(file_, row_at(9, "a", 1)), InvalidArgument);
  EXPECT_THROW(append(file_, row_at(8, "", 1)), InvalidArgument);
  EXPECT_THROW(append(file_, row_at(8, "a", 0)), InvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(file_));
  EXPECT_THROW(append(folder_.path(), row_at(8, "a", 1)), DeviceError);
}

TEST_F(TuningStore, AFullDiskLeavesTheFileAlone) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  EXPECT_THROW(append("/dev/full", row_at(8, "a", 1)), DeviceError);
}

TEST_F(TuningStore, NoFileIsNoError) {
  table_.add_file(folder_.path() / "none");
  EXPECT_EQ(config(), "none");
  EXPECT_TRUE(lines_.empty());
}

class TuningProcesses : public TuningStore {
 protected:
  pid_t start(std::vector<std::string> words) {
    words.insert(words.begin(), (std::filesystem::read_symlink("/proc/self/exe").parent_path() /
                                 "switchyard_tune_process")
                                    .string());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t process = -1;
    EXPECT_EQ(::posix_spawn(&process, arguments[0], nullptr, nullptr, arguments.data(), environ),
              0);
    return process;
  }
  static int wait(pid_t process) {
    int status = -1;
    ::waitpid(process, &status, 0);
    return status;
  }
};

TEST_F(TuningProcesses, EightAppendToOneFile) {
  constexpr int kProcesses = 8, kRows = 60;
  std::vector<pid_t> processes;
  for (int rank = 0; rank < kProcesses; ++rank)
    processes.push_back(
        start({"append", file_.string(), std::to_string(rank), std::to_string(kRows)}));
  jit::spill(file_.string() + ".go", "");
  for (const pid_t process : processes) EXPECT_EQ(wait(process), 0);
  const std::string text = jit::slurp(file_);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), kProcesses * kRows);
  table_.add_file(file_);
  EXPECT_TRUE(lines_.empty());
  for (int tokens = 8; tokens <= 120; tokens += 8)
    EXPECT_EQ(table_.find(key_at(tokens))->config, "rank 0");
}

TEST_F(TuningProcesses, AKilledAppendSpoilsNoOther) {
  append(file_, row_at(16, "before", 1));
  for (int i = 0; i < 3; ++i) {
    const int status = wait(start({"tear", file_.string()}));
    EXPECT_TRUE(WIFSIGNALED(status));
    append(file_, row_at(8, "after", 1));
  }
  table_.add_file(file_);
  EXPECT_EQ(config(), "after");
  EXPECT_TRUE(table_.find(key_at(16)));
  EXPECT_EQ(lines_.size(), 3U);
}

TEST_F(TuningProcesses, KilledAtAnyMoment) {
  jit::spill(file_.string() + ".go", "");
  for (int i = 0; i < 10; ++i) {
    const pid_t process = start({"append", file_.string(), "1", "1000000"});
    std::this_thread::sleep_for(std::chrono::milliseconds(5 + 3 * i));
    ::kill(process, SIGKILL);
    wait(process);
  }
  append(file_, row_at(128, "last", 1));
  table_.add_file(file_);
  EXPECT_EQ(table_.find(key_at(128))->config, "last");
  EXPECT_LE(lines_.size(), 10U);
}

}  // namespace
}  // namespace switchyard::tune
