"""The exceptions of the package. Their texts are the library's: what was expected, what came, and
the way out."""


class Error(Exception):
    """Everything that Switchyard raises."""


class InvalidArgument(Error, ValueError):
    """The caller's mistake: a wrong shape, type, name or file."""


class Unsupported(Error, NotImplementedError):
    """A correct request that the library cannot serve; the text says why."""


class DeviceError(Error, RuntimeError):
    """Memory, a file or a device failed."""
