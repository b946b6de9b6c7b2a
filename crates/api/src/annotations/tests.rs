//! Annotations of real objects, of hostile ones, and back.
