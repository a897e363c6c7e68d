#pragma once

#include <stdexcept>
#include <string>

namespace switchyard {

/// Everything the library throws. The text is one or two sentences:
/// `[where] what: expected RULE, got VALUE. WAY OUT.`
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's mistake: a wrong shape, type, name, file or problem line.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// A correct request that this library cannot serve; the text says why, for every variant.
class Unsupported : public Error {
 public:
  using Error::Error;
};

/// The world: a driver call, a device or the file system failed.
class DeviceError : public Error {
 public:
  using Error::Error;
};

}  // namespace switchyard
