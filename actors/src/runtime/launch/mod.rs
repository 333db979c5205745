//! Starting programs on this operating system: keeper, shim, sandbox.
