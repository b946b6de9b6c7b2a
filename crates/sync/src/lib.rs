//! Facts against the replica: the smallest fenced transaction that makes the northbound database say them.
