//! Who an end is.
