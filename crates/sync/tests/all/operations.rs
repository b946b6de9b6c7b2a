//! How operations read.
