//! What is said once as long as it stays the same.

/// The last thing that was said. A task that tries again and again asks it before it logs an error.
#[derive(Debug, Default)]
pub struct Once(String);

impl Once {
    /// Records what is to be said. Returns true if it differs from what was said last.
    pub fn is_new(&mut self, what: &str) -> bool {
        let is_new = self.0 != what;
        what.clone_into(&mut self.0);
        is_new
    }

    /// Forgets what was said: it is over, and would be new.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_new_again_after_something_else_or_when_it_was_over() {
        let mut once = Once::default();
        assert_eq!(["a", "a", "b", "a"].map(|what| once.is_new(what)), [true, false, true, true]);
        once.clear();
        assert!(once.is_new("a"));
    }
}
