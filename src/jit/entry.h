#pragma once

#include <filesystem>

#include "jit/compiler.h"

namespace switchyard::jit {

/// What an entry's folder holds.
struct Entry {
  Program program;
  Binary binary;
};

/// Reads a folder of kernel.cubin and entry.json; throws InvalidArgument, saying what is wrong, if
/// a file is missing, cut short or altered.
Entry read_entry(const std::filesystem::path& folder);

/// Makes the folder; throws DeviceError if the file system refuses.
void write_entry(const std::filesystem::path& folder, const Entry& entry);

}  // namespace switchyard::jit
