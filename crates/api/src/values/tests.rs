//! Tables of good and hostile texts, and round trips.
