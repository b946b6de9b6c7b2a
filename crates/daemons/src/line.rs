//! A line of a daemon's log: level, module, message. See [`OPTIONS`].

use tracing::Level;

/// The options that make OVN and OVS daemons log only to stderr, in a format that can be parsed.
pub(crate) const OPTIONS: [&str; 4] =
    ["-vconsole:info", "-vsyslog:off", "-vfile:off", concat!("-vPATTERN:console:", "%p|%c|%m")];

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub level: Level,
    /// The daemon's module, for example `raft`. Empty for output that is not a log line.
    pub module: &'a str,
    pub message: &'a str,
}

impl<'a> Line<'a> {
    /// Parses a line. Other output, such as a usage message, gets the level `INFO`.
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut parts = text.splitn(3, '|');
        if let (Some(level), Some(module), Some(message)) = (parts.next().and_then(level), parts.next(), parts.next()) {
            return Self { level, module, message };
        }
        Self { level: Level::INFO, module: "", message: text }
    }

    /// Writes the line to our log.
    pub(crate) fn tell(&self, daemon: &str) {
        let Self { level, module, message } = self;
        match *level {
            Level::ERROR => tracing::error!(daemon, module, "{message}"),
            Level::WARN => tracing::warn!(daemon, module, "{message}"),
            Level::INFO => tracing::info!(daemon, module, "{message}"),
            _ => tracing::debug!(daemon, module, "{message}"),
        }
    }
}

/// The levels of `vlog` (ovs-appctl(8)).
fn level(name: &str) -> Option<Level> {
    Some(match name {
        "EMER" | "ERR" => Level::ERROR,
        "WARN" => Level::WARN,
        "INFO" => Level::INFO,
        "DBG" => Level::DEBUG,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_taken_apart_and_anything_else_kept_whole() {
        let line = Line::parse("WARN|raft|term 1: 608313 ms timeout expired | again");
        assert_eq!(
            line,
            Line { level: Level::WARN, module: "raft", message: "term 1: 608313 ms timeout expired | again" }
        );
        for other in ["ovsdb-server: nb.db: cannot open", "a|b|c", "", "INFO|raft"] {
            assert_eq!(Line::parse(other), Line { level: Level::INFO, module: "", message: other });
        }
    }
}
