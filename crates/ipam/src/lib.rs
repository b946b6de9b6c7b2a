//! A pure address allocator: state and request in, address or reason out.
