// Configs and problem lines.

#include <sstream>
#include <string>
#include <vector>

#include "c_api/handles.h"
#include "c_api/status.h"
#include "switchyard/problem.h"
#include "switchyard/tuner.h"

namespace switchyard::c_api {

SwitchyardConfig* new_config(MoeConfig config, const WeightFormat& format) {
  MoeProblem problem;
  problem.config = config;
  problem.config.expert_map.clear();
  problem.format = format;
  return new SwitchyardConfig{.config = std::move(config), .line = to_string(problem)};
}

}  // namespace switchyard::c_api

using namespace switchyard;
using namespace switchyard::c_api;

extern "C" {

int switchyard_config_parse(const char* line, const int32_t* expert_map, int64_t entries,
                            SwitchyardConfig** config) {
  return guarded([&] {
    SwitchyardConfig*& result = given(config, "config");
    MoeProblem problem = parse_problem(&given(line, "line"));
    require(problem.tp_ranks == 1 && problem.ep_ranks == 1,
            "[moe] tp, ep: expected a layer as this rank holds it, got '{}'. Give its own I, and "
            "an expert_map.",
            line);
    require(entries >= 0 && (entries == 0 || expert_map != nullptr),
            "[moe] expert_map: expected an array of {} entries, got NULL.", entries);
    problem.config.expert_map.assign(expert_map, expert_map + entries);
    result = new_config(std::move(problem.config), problem.format);
  });
}

void switchyard_config_destroy(SwitchyardConfig* config) {
  delete config;
}

int switchyard_config_info(const SwitchyardConfig* config, SwitchyardConfigInfo* info) {
  return guarded([&] {
    const MoeConfig& c = given(config, "config").config;
    given(info, "info") = {.hidden = c.hidden,
                           .latent = c.latent,
                           .intermediate = c.intermediate,
                           .experts = c.experts,
                           .zero_experts = c.routing.zero_experts,
                           .top_k = c.top_k,
                           .shared_intermediate = c.shared_intermediate,
                           .gated = c.activation.gated() ? 1 : 0,
                           .line = config->line.c_str(),
                           .expert_map = c.expert_map.data(),
                           .expert_map_entries = static_cast<int64_t>(c.expert_map.size())};
  });
}

int switchyard_check(const char* line, uint64_t seed, const char* device,
                     SwitchyardCheckReport* report) {
  return guarded([&] {
    SwitchyardCheckReport& result = given(report, "report");
    const CheckReport made =
        check(parse_problem(&given(line, "line")), seed, parse_device(&given(device, "device")));
    result = {.error_ratio = made.error_ratio,
              .max_abs_error = made.max_abs_error,
              .zeros = made.zeros,
              .finite_match = made.finite_match,
              .repeatable = made.repeatable,
              .routing_exact = made.routing_exact,
              .passed = made.passed};
  });
}

int switchyard_tune(const char* lines, const char* file, int device, int* tuned) {
  return guarded([&] {
    std::vector<MoeProblem> problems;
    std::istringstream all(&given(lines, "lines"));
    for (std::string line; std::getline(all, line);) problems.push_back(parse_problem(line));
    tuner::Options options;
    if (file != nullptr) options.out = file;
    options.device = device;
    const tuner::Summary summary = tuner::tune(problems, options);
    if (tuned != nullptr) *tuned = summary.tuned;
  });
}

int switchyard_preset(const char* name, int tokens, char** line) {
  return guarded(
      [&] { given(line, "line") = text_of(to_string(preset(&given(name, "name"), tokens))); });
}

int switchyard_preset_names(char** names) {
  return guarded([&] {
    std::string all;
    for (const std::string& name : preset_names()) all += name + "\n";
    given(names, "names") = text_of(all);
  });
}
}
