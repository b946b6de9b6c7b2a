//! Defines every row of the report: the figure, its median, its limit, and kube-ovn's figure.

use std::time::Duration;

use super::alone::Alone;
use super::bed::{AT_ONCE, Cleared};
use super::held::{Restart, Takeover, Written};
use super::large::Large;
use super::members::{Gaps, Lost};
use super::plugin::{BESIDE, IDLE_WITH, Plugged};
use super::pods::Burst;
use super::report::Bar::{self, AtLeast, AtMost};
use super::report::{Report, thousands};
use super::stats::{Times, median, medians, millis};
use super::traffic::{RAISED, RATES, Traffic};
use super::usage::Memory;

/// Describes a node without a kubelet, whose pods never start.
const BARE: &str = "a node without kubelet";

/// One burst with our controllers, and the same burst without them.
#[derive(Clone, Debug)]
pub struct Round {
    /// The burst with our controllers.
    pub ours: Burst,
    /// The deletion of its pods.
    pub cleared: Cleared,
    /// The same load on the API server alone.
    pub alone: Alone,
}

/// Reports pods that are created one by one.
pub fn paced(report: &mut Report, count: usize, per_second: u32, runs: &[Times]) {
    report.about(&format!("{count} pods, {per_second} a second"), &format!("{BARE}, {}", medians_of(runs.len())));
    let both = medians(runs.iter().map(Times::half_and_most));
    report.row("POST returned to annotated, p50 / p99", &both, "ms", AtMost(&[12.0, 25.0]), "12 / 22 ms");
}

/// Reports pods that are created all at once.
pub fn bursts(report: &mut Report, count: usize, rounds: &[Round]) {
    let theirs = |at_1000: &'static str, at_3000: &'static str| match count {
        1000 => at_1000,
        3000 => at_3000,
        _ => "",
    };
    let of = |figure: fn(&Round) -> f64| [median(rounds.iter().map(figure))];
    let both = |figure: fn(&Round) -> [f64; 2]| medians(rounds.iter().map(figure));
    let how = format!("by {AT_ONCE} clients, {BARE}, {}", medians_of(rounds.len()));
    report.about(&format!("{} pods at once", thousands(count)), &how);
    let per_second = of(|r| r.ours.per_second());
    report.row("first create to last one annotated", &per_second, "pods/s", AtLeast(&[200.0]), theirs("33-36", "21"));
    report.detail("  in all", &of(|r| r.ours.took.as_secs_f64()), "s", theirs("28-30 s", "143 s"));
    report.detail("  of it until the last POST returned", &of(|r| r.ours.posted.as_secs_f64()), "s", "");
    report.detail("  last IP object, after the last annotation", &of(|r| millis(r.ours.records)), "ms", "");
    let theirs_latency = theirs("12-13 / 26-28 s", "55 / 136 s");
    report.detail(
        "POST returned to annotated, p50 / p99",
        &both(|r| r.ours.latencies.half_and_most()),
        "ms",
        theirs_latency,
    );
    report.detail("first create to last IP object too", &of(|r| r.ours.written_per_second()), "pods/s", "");
    let share = of(|r| 100.0 * r.ours.written_per_second() / r.alone.per_second);
    report.row("  of what the API server takes of the same writes alone", &share, "%", AtLeast(&[70.0]), "");
    report.detail("  which is (POST pod, POST IP, PATCH pod)", &of(|r| r.alone.per_second), "pods/s", "");
    let cpu = of(|r| millis(r.ours.cpu_per_pod()));
    report.row("the controller's CPU for each pod", &cpu, "ms", AtMost(&[1.0]), theirs("11.3 ms", "22.7 ms"));
    let transactions = of(|r| r.ours.transactions_per_1000());
    report.row("northbound transactions for 1,000 pods", &transactions, "", AtMost(&[100.0]), theirs("3,700", "3,582"));
    report.detail(
        "  in all, and with northd's",
        &both(|r| [r.ours.transactions.0, r.ours.transactions.1].map(count_of)),
        "",
        "",
    );
    report.detail("  operations in them", &of(|r| r.ours.used.operations), "", "");
    report.detail("  how long a commit took, on average", &of(|r| millis(r.ours.used.commit)), "ms", "");
    let memory = of(|r| r.ours.leader.now);
    report.row("the leader's memory at the end", &memory, "MiB", AtMost(&[40.0]), theirs("125 MiB", "167 MiB"));
    report.detail(
        "  at most / its own data alone",
        &both(|r| [r.ours.leader.most, r.ours.leader.data]),
        "MiB",
        theirs("", "186 MiB"),
    );
    report.row("the standby's memory at the end", &of(|r| r.ours.standby.now), "MiB", AtMost(&[40.0]), "");
    report.detail("  at most / its own data alone", &both(|r| [r.ours.standby.most, r.ours.standby.data]), "MiB", "");
    let ports = of(|r| r.cleared.ports.as_secs_f64());
    report.row("all deleted: last port gone after the API is done", &ports, "s", AtMost(&[2.0]), theirs("", "58 s"));
    report.detail("  by the API", &of(|r| r.cleared.by_api.as_secs_f64()), "s", theirs("", "13.6 s"));
    report.detail("  last IP object gone, after the API is done", &of(|r| r.cleared.records.as_secs_f64()), "s", "");
    report.text("every pod has its port, addresses of its own and its IP object", "yes", "");
    if let Some(last) = rounds.last() {
        report.processes("CPU of the last run", &last.ours.used.cpu, count);
        report.processes("CPU of the last run without our controllers", &last.alone.cpu, count);
    }
}

/// Compares the rates of a small and a large burst.
pub fn flat(report: &mut Report, few: (usize, &[Round]), many: (usize, &[Round])) {
    report.about("bursts", "each with the one that ran beside it");
    let pairs = many.1.iter().zip(few.1);
    let shares = pairs.map(|(many, few)| 100.0 * many.ours.per_second() / few.ours.per_second());
    let what = format!("pods/s with {}, of those with {}", thousands(many.0), thousands(few.0));
    report.row(&what, &[median(shares)], "%", AtLeast(&[90.0]), "62 %");
}

/// Reports a killed leader with a warm standby.
pub fn takeovers(report: &mut Report, held: usize, lease: Duration, runs: &[Takeover]) {
    let about = format!("leader killed, {} pods, a warm standby", thousands(held));
    report.about(&about, &format!("{} times, the Lease holds for {} s", runs.len(), lease.as_secs()));
    let served: Times = runs.iter().map(|run| run.served).collect();
    let bar = lease.as_secs_f64() + 1.0;
    report.row("next pod served, at worst", &[served.percentile(100).as_secs_f64()], "s", AtMost(&[bar]), "39 s");
    report.detail("  the median", &[served.percentile(50).as_secs_f64()], "s", "");
    written(report, "", runs.iter().map(|run| &run.written), Bar::None, "");
}

/// Reports restarts of the only replica.
pub fn restarts(report: &mut Report, held: usize, [asked, killed, replaced]: &[Vec<Restart>; 3]) {
    let about = format!("controller restarted, one replica, {} pods", thousands(held));
    report.about(&about, &medians_of(asked.len()));
    let of = |runs: &[Restart], figure: fn(&Restart) -> f64| [median(runs.iter().map(figure))];
    let served = |r: &Restart| r.served.as_secs_f64();
    report.row("its start to the next pod served", &of(asked, served), "s", AtMost(&[2.0]), "5.0 s");
    report.detail("  SIGTERM to its end, before that", &of(asked, |r| r.ending.as_secs_f64()), "s", "");
    written(report, "", asked.iter().map(|run| &run.written), AtMost(&[0.0]), "8");
    let after = "after SIGKILL, its name still the Lease's: its start to the next pod served";
    report.row(after, &of(killed, served), "s", Bar::None, "39 s");
    written(report, "after SIGKILL: ", killed.iter().map(|run| &run.written), Bar::None, "");
    report.detail("  one of another name, which waits for the Lease", &of(replaced, served), "s", "");
    report.row("its memory then", &of(asked, |r| r.memory.now), "MiB", AtMost(&[40.0]), "");
    let data = |r: &Restart| [r.memory.most, r.memory.data];
    report.detail("  at most / its own data alone", &medians(asked.iter().map(data)), "MiB", "");
}

/// Reports transactions that the next pod does not explain. The maximum of all runs counts.
fn written<'a>(report: &mut Report, after: &str, runs: impl Iterator<Item = &'a Written>, bar: Bar<'_>, theirs: &str) {
    let runs: Vec<_> = runs.collect();
    let most =
        |figure: fn(&Written) -> usize| runs.iter().map(|run| figure(run)).max().map(count_of).unwrap_or_default();
    let what = format!("{after}northbound writes besides the next pod's and the fence's");
    report.row(&what, &[most(|written| written.besides)], "", bar, theirs);
    report.detail("  with the fence's", &[most(|written| written.besides + written.fence)], "", "");
    report.detail("  the next pod's", &[most(|written| written.pod)], "", "");
    for row in runs.iter().flat_map(|written| &written.rows).take(5) {
        println!("    {row}");
    }
}

/// Reports a large cluster. A restart may take longer than with few pods, because the lists are longer.
pub fn large(report: &mut Report, large: &Large) {
    let Large { size, ours, alone, restart } = large;
    let about = format!("{} pods at once on {} nodes", thousands(size.pods), size.nodes);
    report.about(&about, "nodes without kubelets, measured once");
    report.row("first create to last one annotated", &[ours.per_second()], "pods/s", Bar::None, "");
    report.detail("  in all", &[ours.took.as_secs_f64()], "s", "");
    let share = 100.0 * ours.written_per_second() / alone.per_second;
    report.row("  of what the API server takes of the same writes alone", &[share], "%", Bar::None, "");
    report.detail("  which is (POST pod, POST IP, PATCH pod)", &[alone.per_second], "pods/s", "");
    report.detail("POST returned to annotated, p50 / p99", &ours.latencies.half_and_most(), "ms", "");
    report.row("the controller's CPU for each pod", &[millis(ours.cpu_per_pod())], "ms", AtMost(&[1.0]), "");
    for (what, programs) in [
        ("the API server and etcd", &["kube-apiserver", "etcd"] as &[&str]),
        ("northd", &["northd"]),
        ("OVN's databases", &["ovsdb-server"]),
        ("the ovn-controllers of two nodes", &[" ovn-controller"]),
    ] {
        let used = ours.used.by(programs);
        report.row(&format!("  CPU of {what}"), &[millis(used) / count_of(size.pods)], "ms", Bar::None, "");
    }
    report.row("northbound transactions for 1,000 pods", &[ours.transactions_per_1000()], "", AtMost(&[100.0]), "");
    report.row("the leader's memory at the end", &[ours.leader.now], "MiB", Bar::None, "");
    report.detail("  at most / its own data alone", &[ours.leader.most, ours.leader.data], "MiB", "");
    report.row("restarted: its start to the next pod served", &[restart.served.as_secs_f64()], "s", large.bar(), "");
    written(report, "restarted: ", std::iter::once(&restart.written), AtMost(&[0.0]), "");
    report.text("every pod has its port, addresses of its own and its IP object", "yes", "");
    report.processes("CPU", &ours.used.cpu, size.pods);
}

/// Reports the plugin.
pub fn plugged(report: &mut Report, plugged: &Plugged) {
    let of = |runs: &[[Times; 2]], verb: usize| medians(runs.iter().map(|run| run[verb].half_and_most()));
    let (serial, at_once) = (&plugged.serial, &plugged.at_once);
    report.about("CNI plugin", &format!("from exec to exit, pod annotated, {}", medians_of(serial.len())));
    let theirs = "136 / 162 ms (by default 5.4 s)";
    report.row("ADD one after the other, p50 / p99", &of(serial, 0), "ms", AtMost(&[25.0, 60.0]), theirs);
    let [half, most] = of(at_once, 0);
    report.row("ADD ten at once, p50", &[half], "ms", AtMost(&[80.0]), "684 ms");
    report.detail("  p99", &[most], "ms", "724 ms");
    let [half, most] = of(serial, 1);
    report.row("DEL one after the other, p50", &[half], "ms", AtMost(&[30.0]), "92 ms");
    report.detail("  p99", &[most], "ms", "107 ms");
    report.detail("DEL ten at once, p50 / p99", &of(at_once, 1), "ms", "");
    let behind = "ADD ten at once, right after ten DELs, p50 / p99";
    report.row(behind, &of(&plugged.after_others, 0), "ms", Bar::None, "");
    for (count, times) in BESIDE.iter().zip(&plugged.beside) {
        let [add, del] = [&times[0], &times[1]].map(Times::half_and_most);
        report.row(&format!("ADD beside {count} other pods of the node, p50 / p99"), &add, "ms", Bar::None, "");
        report.row(&format!("DEL beside {count} other pods of the node, p50 / p99"), &del, "ms", Bar::None, "");
    }
    report.processes("CPU, per call of the plugin", &plugged.cpu, plugged.calls);
    report.about(&format!("a node with {IDLE_WITH} pods that rests for a minute"), "");
    for (name, quiet) in [("the agent", plugged.idle.agent), ("ovs-ovn without its daemons", plugged.idle.supervisor)] {
        report.row(&format!("CPU time of {name}"), &[quiet.cpu], "s", AtMost(&[0.1]), "");
        report.row(&format!("memory of {name}"), &[quiet.memory.now], "MiB", AtMost(&[15.0]), "");
        report.detail("  its own data alone", &[quiet.memory.data], "MiB", "");
    }
}

/// Reports the repair of a node's firewall rules.
pub fn repaired(report: &mut Report, times: &Times) {
    report.about("firewall rules of a node deleted", "all of IPv4");
    let both = times.half_and_most();
    report.row("until they are back, p50 / at most", &both, "ms", AtMost(&[1000.0, 1000.0]), "20-30 s");
}

/// Reports the traffic of pods.
pub fn traffic(report: &mut Report, traffic: &Traffic) {
    report.about("limits of traffic", "TCP and UDP, both directions, on one node and between two");
    for (wanted, shares) in RATES.iter().zip(&traffic.limits) {
        let off = |share: &f64| (share - 100.0).abs();
        let worst = shares.iter().map(|(_, share)| off(share)).fold(0.0, f64::max);
        report.row(
            &format!("{wanted} Mbit/s: the largest error of {}", shares.len()),
            &[worst],
            "%",
            AtMost(&[10.0]),
            "",
        );
        for (what, share) in shares {
            report.detail(&format!("  {what}"), &[*share], "%", "");
        }
    }
    let both = [traffic.raised.percentile(50), traffic.raised.percentile(100)].map(millis);
    let what = format!("raised {RAISED} times: annotation to more packets, p50 / at most");
    report.row(&what, &both, "ms", Bar::None, "");
    report.about("TCP between two pods of one node", &medians_of(traffic.forwarded.len()));
    let [plain, mirrored, metered] = medians(traffic.forwarded.iter().copied());
    report.row("without a mirror and a limit", &[plain], "Mbit/s", Bar::None, "");
    let share = |at: usize| [median(traffic.forwarded.iter().map(|run| 100.0 * run[at] / run[0]))];
    report.row("copied to mirror0, of that", &share(1), "%", Bar::None, "");
    report.detail("  which is", &[mirrored], "Mbit/s", "");
    report.row("with a limit that is not reached, of that", &share(2), "%", Bar::None, "");
    report.detail("  which is", &[metered], "Mbit/s", "");
}

/// Reports the loss of a gateway.
pub fn failover(report: &mut Report, pauses: &Times) {
    let times = pauses.iter().count();
    report.about("the active gateway node is unplugged", &format!("three nodes, {times} times, a ping each 10 ms"));
    let both = [pauses.percentile(50), pauses.percentile(100)].map(millis);
    report.row("longest time without an answer, p50 / at most", &both, "ms", AtMost(&[1000.0, 2000.0]), "49-53 s");
}

/// Reports how long nothing could be written to the northbound database.
pub fn gaps(report: &mut Report, gaps: &Gaps) {
    let times = gaps.killed.iter().count();
    report.about("the leader of the northbound database ends", &format!("three members, {times} times each"));
    let both = |times: &Times| [50, 100].map(|percent| millis(times.percentile(percent)));
    let what = "longest time between two writes, killed, p50 / at most";
    report.row(what, &both(&gaps.killed), "ms", AtMost(&[2200.0, 2200.0]), "");
    let what = "longest time between two writes, stopped, p50 / at most";
    report.row(what, &both(&gaps.handed_over), "ms", AtMost(&[200.0, 200.0]), "");
}

/// Reports the loss of all disks of the databases.
#[allow(clippy::cast_precision_loss)] // packets are few
pub fn lost(report: &mut Report, lost: &Lost) {
    let (times, pods) = (lost.written.iter().count(), thousands(lost.pods));
    report.about("all three members lose their disks", &format!("{pods} pods, {times} times"));
    let both = |times: &Times| [50, 100].map(|percent| times.percentile(percent).as_secs_f64());
    let what = "northbound written again, p50 / at most";
    report.row(what, &both(&lost.written), "s", AtMost(&[10.0, 10.0]), "");
    report.row("a pod created then is ready, p50 / at most", &both(&lost.served), "s", AtMost(&[10.0, 10.0]), "");
    report.row("members whole and labelled, p50 / at most", &both(&lost.whole), "s", AtMost(&[15.0, 15.0]), "");
    let (missing, sent) = lost.packets;
    report.row("packets between running pods that were lost", &[missing as f64], "", AtMost(&[0.0]), "");
    report.detail("  of", &[sent as f64], "", "");
}

/// Reports the controller's memory before the first pod.
pub fn idle(report: &Report, leaders: &[Memory]) {
    let both = medians(leaders.iter().map(|memory| [memory.now, memory.data]));
    report.detail("the leader's memory before the first pod / its own data alone", &both, "MiB", "");
}

fn medians_of(runs: usize) -> String {
    format!("medians of {runs}")
}

#[allow(clippy::cast_precision_loss)] // counts are small
fn count_of(count: usize) -> f64 {
    count as f64
}
