//! What stands in an admission where the source does not know better.

/// The name of a guest whose name is not known. QEMU has none by itself, and the admission wants one.
pub(crate) const NAMELESS: &str = "unnamed";
/// The machine type of a guest whose stream is not understood.
pub(crate) const UNKNOWN: &str = "unknown";
