// How fast checkpoints open and load, as JSON lines.
//
//   checkpoint_bench [DIRECTORY] [GIB]
//
// open   an index of 497,000 tensors in 96 shards (59 MB of JSON), headers included; the shards
//        are sparse files. The best and the median of several opens, page cache warm.
// load   one layer of GIB (1.5; 0 = leave it out), page cache dropped before each run, beside a
//        plain sequential read of the same file. Peak memory is the process's own, less what it
//        was before.
//
// bench/results/*-checkpoint.jsonl: build/release/bin/checkpoint_bench on a local disk; an open is
// to take at most 0.5 s, a load to reach half of the sequential rate within 1.10 of the layer.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "switchyard/checkpoint.h"

namespace {

namespace fs = std::filesystem;
using switchyard::Checkpoint;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Of this process: what the open costs when other programs share the machine.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

struct Stored {
  std::string name, dtype, shape;
  std::int64_t bytes;
};

/// A file with that header and no data: a hole as long as the tensors.
void write_sparse(const fs::path& path, const std::vector<Stored>& tensors) {
  std::string json = "{";
  std::int64_t end = 0;
  for (const Stored& t : tensors) {
    if (json.size() > 1) json += ",";
    json += "\"" + t.name + "\":{\"dtype\":\"" + t.dtype + "\",\"shape\":" + t.shape +
            ",\"data_offsets\":[" + std::to_string(end) + "," + std::to_string(end + t.bytes) +
            "]}";
    end += t.bytes;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = json.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << json;
  file.close();
  fs::resize_file(path, 8 + length + static_cast<std::uint64_t>(end));
}

std::string config(int layers, int hidden, int experts) {
  return "{\"model_type\": \"kimi_k2\", \"num_experts_per_tok\": 8, \"num_hidden_layers\": " +
         std::to_string(layers) + ", \"hidden_size\": " + std::to_string(hidden) +
         ", \"n_routed_experts\": " + std::to_string(experts) + "}";
}

std::vector<Stored> layer_tensors(int layer, int experts, int hidden, int inner) {
  const std::string prefix =
      "language_model.model.layers." + std::to_string(layer) + ".block_sparse_moe.";
  std::vector<Stored> all;
  const auto add = [&](const std::string& name, const char* dtype, std::int64_t rows,
                       std::int64_t cols, std::int64_t size) {
    all.push_back({prefix + name, dtype,
                   "[" + std::to_string(rows) + "," + std::to_string(cols) + "]",
                   rows * cols * size});
  };
  for (int e = 0; e < experts; ++e)
    for (const char* const base : {"w1", "w2", "w3"}) {
      const std::string name = "experts." + std::to_string(e) + "." + base;
      const std::int64_t out = base[1] == '2' ? hidden : inner;
      const std::int64_t in = base[1] == '2' ? inner : hidden;
      add(name + ".weight_packed", "U8", out, in / 2, 1);
      add(name + ".weight_scale", "U8", out, in / 32, 1);
    }
  add("gate.weight", "BF16", experts, hidden, 2);
  return all;
}

void bench_open(const fs::path& directory) {
  constexpr int kLayers = 92, kExperts = 900, kShards = 96;
  fs::create_directories(directory);
  std::ofstream(directory / "config.json") << config(kLayers, 3584, kExperts);
  std::vector<std::vector<Stored>> shards(kShards);
  std::size_t count = 0;
  for (int layer = 0; layer < kLayers; ++layer)
    for (Stored& tensor : layer_tensors(layer, kExperts, 3584, 3072)) {
      const std::size_t shard = count++ * kShards / (kLayers * (kExperts * 6 + 1));
      shards[shard].push_back(std::move(tensor));
    }
  std::ofstream index(directory / "model.safetensors.index.json");
  index << "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {";
  const char* comma = "\n";
  for (int s = 0; s < kShards; ++s) {
    char file[64];
    std::snprintf(file, sizeof file, "model-%05d-of-%06d.safetensors", s + 1, kShards);
    const std::vector<Stored>& tensors = shards[static_cast<std::size_t>(s)];
    write_sparse(directory / file, tensors);
    for (const Stored& tensor : tensors) {
      index << comma << "    \"" << tensor.name << "\": \"" << file << "\"";
      comma = ",\n";
    }
  }
  index << "\n}}\n";
  index.close();
  std::vector<double> times, cpu;
  for (int run = 0; run < 7; ++run) {
    const double begin = seconds_now(), cpu_begin = cpu_seconds();
    const Checkpoint checkpoint = Checkpoint::open(directory);
    times.push_back(seconds_now() - begin);
    cpu.push_back(cpu_seconds() - cpu_begin);
    if (checkpoint.layers().size() != kLayers) std::abort();
  }
  std::sort(times.begin(), times.end());
  std::sort(cpu.begin(), cpu.end());
  std::printf(
      "{\"bench\": \"checkpoint_open\", \"tensors\": %zu, \"shards\": %d, "
      "\"index_bytes\": %ju, \"best_s\": %.3f, \"median_s\": %.3f, \"median_cpu_s\": %.3f}\n",
      count, kShards,
      static_cast<std::uintmax_t>(fs::file_size(directory / "model.safetensors.index.json")),
      times.front(), times[times.size() / 2], cpu[cpu.size() / 2]);
  std::fflush(stdout);
}

/// Asks the system to forget the file's pages; on most machines that needs no rights.
void drop_cache(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  ::fdatasync(file);
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  ::close(file);
}

double sequential_read(const fs::path& path) {
  std::vector<char> buffer(std::size_t{4} << 20);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const double begin = seconds_now();
  while (::read(file, buffer.data(), buffer.size()) > 0) {
  }
  const double seconds = seconds_now() - begin;
  ::close(file);
  return seconds;
}

double peak_mib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void bench_load(const fs::path& directory, double gib) {
  constexpr int kHidden = 4096, kInner = 2048;
  const double expert = 3.0 * kHidden * kInner * 0.53125;
  const int experts = std::max(8, static_cast<int>(gib * 1073741824.0 / expert));
  fs::create_directories(directory);
  std::ofstream(directory / "config.json") << config(1, kHidden, experts);
  const fs::path file = directory / "model.safetensors";
  write_sparse(file, layer_tensors(0, experts, kHidden, kInner));
  const auto size = static_cast<std::int64_t>(fs::file_size(file));
  const auto data = static_cast<std::int64_t>(gib * 1073741824.0);
  {  // real bytes instead of the hole, so that the disk has something to read
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    std::vector<char> noise(std::size_t{1} << 20);
    std::uint64_t state = 1;
    for (std::int64_t at = size - data / 1048576 * 1048576; at + 1048576 <= size; at += 1048576) {
      for (std::size_t i = 0; i < noise.size(); i += 8) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        std::memcpy(noise.data() + i, &state, 8);
      }
      std::uint64_t header = 0;
      if (at < 1048576) continue;  // keep the header
      std::memcpy(&header, noise.data(), 8);
      out.seekp(at);
      out.write(noise.data(), static_cast<std::streamsize>(noise.size()));
    }
  }
  const Checkpoint checkpoint = Checkpoint::open(directory);
  const double before = peak_mib();
  std::vector<double> loads, reads;
  for (int run = 0; run < 5; ++run) {
    drop_cache(file);
    reads.push_back(sequential_read(file));
    drop_cache(file);
    const double begin = seconds_now();
    const switchyard::MoeWeights weights = checkpoint.load(0);
    loads.push_back(seconds_now() - begin);
  }
  std::sort(loads.begin(), loads.end());
  std::sort(reads.begin(), reads.end());
  const double layer = static_cast<double>(size) / 1048576;
  const double load_rate = layer / 1024 / loads[2], read_rate = layer / 1024 / reads[2];
  std::printf(
      "{\"bench\": \"checkpoint_load\", \"layer_mib\": %.0f, \"load_s\": %.3f, "
      "\"read_s\": %.3f, \"load_gib_s\": %.2f, \"read_gib_s\": %.2f, "
      "\"share_of_read_rate\": %.2f, \"peak_over_layer\": %.3f}\n",
      layer, loads[2], reads[2], load_rate, read_rate, load_rate / read_rate,
      (peak_mib() - before) / layer);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const fs::path directory =
        argc > 1 ? fs::path(argv[1]) : fs::temp_directory_path() / "switchyard-checkpoint-bench";
    const double gib = argc > 2 ? std::atof(argv[2]) : 1.5;
    if (gib > 0) bench_load(directory / "load", gib);  // first: its peak memory must be its own
    bench_open(directory / "open");
    fs::remove_all(directory / "load");
    fs::remove_all(directory / "open");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
