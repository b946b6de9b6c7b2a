//! Process glue: logs, signals, the metrics and health endpoint.
