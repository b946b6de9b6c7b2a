//! The figures as they are printed, each with what kube-ovn 1.17 needed for the same on the same kind of machine.

use std::time::Duration;

use super::alone::Alone;
use super::plugin::Plugged;
use super::pods::Burst;
use super::stats::{Times, median, millis};

/// How many processes a table names.
const TABLE: usize = 8;

fn row(what: &str, figure: &str, theirs: &str) {
    println!("  {what:<58} {figure:>18}    {theirs}");
}

fn heading(text: &str) {
    println!("\n{text:<80}    kube-ovn 1.17, same kind of machine, measured once");
}

/// Pods one after the other.
pub fn paced(count: usize, per_second: u32, times: &Times) {
    heading(&format!("{count} pods, {per_second} per second, on a node without kubelet"));
    row("POST returned -> annotated, p50 / p99", &times.shown(), "12 / 22 ms");
}

/// Pods all at once.
pub fn bursts(count: usize, runs: &[Burst]) {
    let of = |figure: &dyn Fn(&Burst) -> f64| median(runs.iter().map(figure));
    let theirs = |at_1000: &'static str, at_3000: &'static str| match count {
        1000 => at_1000,
        3000 => at_3000,
        _ => "",
    };
    heading(&format!("{count} pods at once by 32 clients, on a node without kubelet; medians of {}", runs.len()));
    row(
        "first create -> last annotated",
        &format!("{:.1} s", of(&|r| r.took.as_secs_f64())),
        theirs("28-30 s", "143 s"),
    );
    row("pods per second", &format!("{:.0}", of(&Burst::per_second)), theirs("33-36", "21"));
    row("  of it until the last POST returned", &format!("{:.1} s", of(&|r| r.posted.as_secs_f64())), "");
    row("  last IP object, after the last annotation", &format!("{:.0} ms", of(&|r| millis(r.records))), "");
    let (half, most) = (of(&|r| millis(r.latencies.percentile(50))), of(&|r| millis(r.latencies.percentile(99))));
    row(
        "POST returned -> annotated, p50 / p99",
        &format!("{half:.0} / {most:.0} ms"),
        theirs("12-13 / 26-28 s", "55 / 136 s"),
    );
    row("leader's CPU per pod", &format!("{:.2} ms", of(&|r| millis(r.cpu_per_pod()))), theirs("11.3 ms", "22.7 ms"));
    let memory = |of: fn(&Burst) -> u64| runs.iter().map(of).max().unwrap_or_default();
    let (now, most) = (memory(|r| r.memory.0), memory(|r| r.memory.1));
    row("leader's memory, at the end / at most", &format!("{now} / {most} MiB"), theirs("125 MiB", "167 / 186 MiB"));
    row("the leader's northbound transactions", &format!("{:.0}", of(&|r| r.used.commits)), theirs("3,700", "10,746"));
    row("  operations in them", &format!("{:.0}", of(&|r| r.used.operations)), "");
    row("  how long one took, on average", &format!("{:.1} ms", of(&|r| millis(r.used.commit))), "");
    row(
        "  all records in the database's file, northd's too",
        &format!("{:.0}", of(&|r| count_of(r.used.transactions))),
        "",
    );
    row(
        "all deleted: by the API server",
        &format!("{:.1} s", of(&|r| r.cleared.0.as_secs_f64())),
        theirs("", "13.6 s"),
    );
    row(
        "  last port and IP object gone, after that",
        &format!("{:.1} s", of(&|r| r.cleared.1.as_secs_f64())),
        theirs("", "58 s"),
    );
    row("every pod has its port, addresses of its own and its IP object", "yes", "");
    if let Some(last) = runs.last() {
        table("CPU of the last run", &last.used.cpu, count);
    }
}

/// What the API server takes alone, and our share of it.
pub fn alone(count: usize, ours: f64, runs: &[Alone]) {
    let alone = median(runs.iter().map(|r| r.per_second));
    println!(
        "\n{count} pods: the same writes without a controller (POST pod, POST IP, PATCH pod); medians of {}",
        runs.len()
    );
    row("pods per second", &format!("{alone:.0}"), "");
    row("our share of that", &format!("{:.0} %", 100.0 * ours / alone), "");
    if let Some(last) = runs.last() {
        table("CPU of the last run", &last.cpu, count);
    }
}

/// The plugin.
pub fn plugged(plugged: &Plugged) {
    let [add, del] = &plugged.serial;
    let [filling, emptying] = &plugged.filling;
    let [adds, dels] = &plugged.at_once;
    heading("the CNI plugin, from its start to its end, pod annotated");
    row("ADD one after the other, p50 / p99", &add.shown(), "136 / 162 ms (by default 5.4 s)");
    row("ADD one after the other, none unplugged meanwhile, p50 / p99", &filling.shown(), "");
    row("ADD ten at once, p50 / p99", &adds.shown(), "684 / 724 ms");
    row("DEL one after the other, p50 / p99", &del.shown(), "92 / 107 ms");
    row("DEL one after the other, after all ADDs, p50 / p99", &emptying.shown(), "");
    row("DEL ten at once, p50 / p99", &dels.shown(), "");
    table("CPU, per call of the plugin", &plugged.cpu, plugged.calls);
}

/// Who used the processors, in all and for one of `count`.
fn table(title: &str, cpu: &[(String, Duration)], count: usize) {
    println!("  {title}:");
    for (name, time) in cpu.iter().take(TABLE).filter(|(_, time)| !time.is_zero()) {
        let each = millis(*time) / count_of(count);
        println!("    {name:<56} {:>10.2} s {each:>6.2} ms each", time.as_secs_f64());
    }
}

#[allow(clippy::cast_precision_loss)] // counts are small
fn count_of(count: usize) -> f64 {
    count as f64
}
