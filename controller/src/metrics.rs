//! The controller's Prometheus metrics.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, Opts, Registry};

/// The controller's metrics. Clones share the same values.
#[derive(Debug, Clone)]
pub struct Metrics {
    leader: Gauge,
    operations: IntCounter,
    commits: Histogram,
    conflicts: Gauge,
    used: GaugeVec,
    available: GaugeVec,
}

impl Metrics {
    /// Creates and registers the metrics. Fails only if a name is already registered.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            leader: Gauge::new("kube_ovn_controller_leader", "1 while this replica leads")?,
            operations: IntCounter::new(
                "kube_ovn_nb_operations_total",
                "operations committed to the northbound database",
            )?,
            commits: Histogram::with_opts(
                HistogramOpts::new("kube_ovn_nb_commit_seconds", "time from a comparison to its last commit")
                    .buckets(prometheus::exponential_buckets(0.0005, 2.0, 14)?),
            )?,
            conflicts: Gauge::new(
                "kube_ovn_nb_fact_conflicts",
                "northbound rows that two objects want with different contents",
            )?,
            used: GaugeVec::new(Opts::new("subnet_used_ip_count", "addresses in use"), &["subnet_name", "protocol"])?,
            available: GaugeVec::new(
                Opts::new("subnet_available_ip_count", "addresses that can be given out"),
                &["subnet_name", "protocol"],
            )?,
        };
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.operations.clone()))?;
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.conflicts.clone()))?;
        registry.register(Box::new(metrics.used.clone()))?;
        registry.register(Box::new(metrics.available.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.leader.set(if leading { 1.0 } else { 0.0 });
    }

    pub(crate) fn committed(&self, operations: usize, took: Duration) {
        self.operations.inc_by(operations as u64);
        self.commits.observe(took.as_secs_f64());
    }

    #[allow(clippy::cast_precision_loss)] // a gauge is a float
    pub(crate) fn conflicts(&self, rows: usize) {
        self.conflicts.set(rows as f64);
    }

    /// Sets the usage of a subnet. `None` removes the metrics of a deleted subnet.
    #[allow(clippy::cast_precision_loss)] // a gauge is a float
    pub(crate) fn subnet(&self, name: &str, usage: Option<ipam::Usage>) {
        for family in ["IPv4", "IPv6"] {
            let Some(usage) = &usage else {
                let _ = self.used.remove_label_values(&[name, family]);
                let _ = self.available.remove_label_values(&[name, family]);
                continue;
            };
            let counts = if family == "IPv4" { &usage.v4 } else { &usage.v6 };
            self.used.with_label_values(&[name, family]).set(counts.used as f64);
            self.available.with_label_values(&[name, family]).set(counts.available as f64);
        }
    }
}
