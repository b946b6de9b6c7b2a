//! The agent's metrics, with kube-ovn's names.

use std::time::{Duration, Instant};

use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry};

use crate::check::Finding;
use crate::rules::Dropped;

/// The agent's metrics. All have a label with the node. Clones share the counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    node: String,
    operations: HistogramVec,
    wait_address: CounterVec,
    wait_connectivity: CounterVec,
    restored: CounterVec,
    dropped: GaugeVec,
    checks: GaugeVec,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &Registry, node: &str) -> prometheus::Result<Self> {
        let operations = HistogramOpts::new("cni_op_latency_seconds", "How long CNI operations took.")
            .buckets(vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]);
        let metrics = Self {
            node: node.to_owned(),
            operations: HistogramVec::new(operations, &["node_name", "method", "status_code"])?,
            wait_address: CounterVec::new(
                Opts::new("cni_wait_address_seconds_total", "Time that ADDs waited for the pod's address."),
                &["node_name"],
            )?,
            wait_connectivity: CounterVec::new(
                Opts::new("cni_wait_connectivity_seconds_total", "Time that ADDs waited for the port's flows."),
                &["node_name"],
            )?,
            restored: CounterVec::new(
                Opts::new(
                    "cni_ports_restored_total",
                    "Ports of running pods that Open vSwitch had lost, or whose rows somebody had changed.",
                ),
                &["node_name"],
            )?,
            dropped: GaugeVec::new(
                Opts::new(
                    "cni_dropped_packets",
                    "Packets that the node's firewall rules dropped since they were written.",
                ),
                &["node_name", "reason"],
            )?,
            checks: GaugeVec::new(
                Opts::new(
                    "cni_node_check",
                    "Whether a check of the node succeeds, as of `kube-ovn-cni check node`: 1 or 0.",
                ),
                &["node_name", "check", "of"],
            )?,
        };
        metrics.restored.with_label_values(&[node]);
        registry.register(Box::new(metrics.operations.clone()))?;
        registry.register(Box::new(metrics.wait_address.clone()))?;
        registry.register(Box::new(metrics.wait_connectivity.clone()))?;
        registry.register(Box::new(metrics.restored.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        Ok(metrics)
    }

    /// Records an operation with its CNI error code. 0 means success.
    pub fn operation(&self, method: &str, code: u32, took: Duration) {
        let labels = [self.node.as_str(), method, &code.to_string()];
        self.operations.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// Sets the numbers of packets that the firewall rules have dropped.
    #[allow(clippy::cast_precision_loss, reason = "a rate is wanted, not the last packet")]
    pub fn dropped(&self, dropped: Dropped) {
        for (reason, packets) in [("invalid", dropped.invalid), ("databases", dropped.databases)] {
            self.dropped.with_label_values(&[&self.node, reason]).set(packets as f64);
        }
    }

    /// Sets the results of all checks of the node.
    pub fn checked(&self, findings: &[Finding]) {
        // A server that is gone has no result.
        self.checks.reset();
        for Finding { check, of, result } in findings {
            self.checks.with_label_values(&[self.node.as_str(), check, of]).set(f64::from(u8::from(result.is_ok())));
        }
    }

    /// Counts a port of a running pod that was restored.
    pub fn restored(&self) {
        self.restored.with_label_values(&[&self.node]).inc();
    }

    /// Records the time that an ADD waited for its address, successfully or not.
    pub fn waited_for_address(&self, since: Instant) {
        self.wait_address.with_label_values(&[&self.node]).inc_by(since.elapsed().as_secs_f64());
    }

    /// Records the time that an ADD waited for its port's flows, successfully or not.
    pub fn waited_for_flows(&self, since: Instant) {
        self.wait_connectivity.with_label_values(&[&self.node]).inc_by(since.elapsed().as_secs_f64());
    }
}
