//! The cost of allocations: `cargo bench -p ipam` prints assignments per second in a well-filled /16, and the time of a
//! rebuild from records.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // a bench can panic, and prints rounded figures

use std::{hint::black_box, time::Instant};

use ipam::{Ipam, Network, Want};

const RUNS: usize = 5;

fn main() {
    let pairs: Vec<f64> = (0..RUNS).map(|_| assign_release()).collect();
    println!("assign+release at 60,000 used of a /16: {:.2} million/s (bar: 1)", median(pairs) / 1e6);
    let pooled: Vec<f64> = (0..RUNS).map(|_| pool_assign_release()).collect();
    println!("the same in a pool of 1,000 among 100:  {:.2} million/s (bar: 1)", median(pooled) / 1e6);
    let rebuilds: Vec<f64> = (0..RUNS).map(|_| rebuild()).collect();
    println!("rebuild from 100,000 records:           {:.1} ms (bar: 100)", median(rebuilds) * 1e3);
    for (what, every) in [("60,000 used in a row", 1), ("30,000 used, every other one", 2)] {
        let ranges: Vec<f64> = (0..RUNS).map(|_| ranges(every)).collect();
        println!("ranges of {what:<29} {:.3} ms", median(ranges) * 1e3);
    }
}

/// Returns pairs per second.
fn assign_release() -> f64 {
    pairs(filled("10.16.0.0/16", 60_000), &Want::any())
}

/// Returns pairs per second.
fn pool_assign_release() -> f64 {
    let mut ipam = filled("10.0.0.0/8", 60_000);
    for n in 0..100_u8 {
        let range = format!("10.{}.0.0..10.{}.3.231", n + 100, n + 100).parse().unwrap();
        ipam.set_pool("net", &format!("pool-{n}"), &[range]).unwrap();
    }
    pairs(ipam, &Want::pool("pool-50"))
}

/// Returns pairs per second.
fn pairs(mut ipam: Ipam, want: &Want) -> f64 {
    const PAIRS: usize = 200_000;
    let names: Vec<String> = (0..1000).map(|n| format!("new-pod-{n}.a-namespace")).collect();
    let start = Instant::now();
    for name in names.iter().cycle().take(PAIRS) {
        black_box(ipam.assign("net", name, want).unwrap());
        ipam.release(name);
    }
    PAIRS as f64 / start.elapsed().as_secs_f64()
}

/// Returns seconds.
fn rebuild() -> f64 {
    let ipam = filled("10.0.0.0/8", 100_000);
    let records: Vec<_> = ipam.holders("net").map(|(holder, lease)| (holder.to_owned(), lease)).collect();
    let mut new = Ipam::default();
    new.set_subnet("net", &network("10.0.0.0/8")).unwrap();
    let start = Instant::now();
    for (holder, lease) in &records {
        new.restore("net", holder, *lease).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(new.usage("net").unwrap().v4.used, 100_000);
    seconds
}

/// Returns seconds.
fn ranges(every: usize) -> f64 {
    let mut ipam = filled("10.16.0.0/16", 60_000);
    for n in (0..60_000).filter(|n| n % every != 0) {
        ipam.release(&format!("pod-{n}.a-namespace"));
    }
    let start = Instant::now();
    black_box(ipam.ranges("net"));
    start.elapsed().as_secs_f64()
}

fn filled(cidr: &str, used: usize) -> Ipam {
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network(cidr)).unwrap();
    for n in 0..used {
        ipam.assign("net", &format!("pod-{n}.a-namespace"), &Want::any()).unwrap();
    }
    ipam
}

fn network(cidr: &str) -> Network {
    let cidrs: api::Cidrs = cidr.parse().unwrap();
    Network { cidrs, gateway: cidrs.map(|cidr| cidr.first_usable()), retired_gateways: vec![], exclude: Vec::new() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
