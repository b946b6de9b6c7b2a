//! D1: random faults of the members of the databases, while pods come and go. After each one, the members are whole again, and at
//! the end all records agree. `KUBE_OVN_SEED` repeats a run, `KUBE_OVN_SECONDS` makes it longer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::central::members::{self, BOTH};
use e2e::layout::Node;
use e2e::net;
use e2e::random::Random;
use nix::sys::signal::Signal;

use crate::d1_members::{Bystanders, HARMS, WHOLE, with_three_members};

/// The time within which a pod gets its network beside any of the faults.
const POD: Duration = Duration::from_secs(15);

/// How long a server hangs, in seconds. The last one only in a run of more than ten minutes.
const HANGS: [u64; 4] = [1, 5, 20, 60];

/// Takes a number of different nodes.
fn some(random: &mut Random, nodes: [Node; 3]) -> Vec<Node> {
    let mut nodes = nodes.to_vec();
    nodes.rotate_left(usize::try_from(random.below(3)).unwrap_or_default());
    nodes.truncate(1 + usize::try_from(random.below(3)).unwrap_or_default());
    nodes
}

/// Does harm, and has pods come and go meanwhile. Returns what it was.
async fn harm(random: &mut Random, nodes: [Node; 3], hangs: &[u64], bystanders: &Bystanders) -> Result<String> {
    let some = some(random, nodes);
    let names = some.iter().map(|node| node.name()).collect::<Vec<_>>().join(", ");
    let newcomer = async |what: &str| bystanders.newcomer_within(what, POD).await;
    match random.below(7) {
        0 => {
            let database = *random.one_of(&BOTH);
            for node in &some {
                database.signal(*node, Signal::SIGKILL)?;
            }
            let what = format!("the servers {database:?} of {names} are killed");
            newcomer(&what).await.map(|()| what)
        }
        1 => {
            for node in &some {
                members::kill(*node)?;
            }
            let what = format!("the members on {names} are killed");
            newcomer(&what).await.map(|()| what)
        }
        2 => {
            let (database, seconds) = (*random.one_of(&BOTH), *random.one_of(hangs));
            let pids = some.iter().map(|node| database.pid(*node)).collect::<Result<Vec<_>>>()?;
            for pid in &pids {
                members::send(*pid, Signal::SIGSTOP)?;
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            for pid in &pids {
                // The kubelet may have started it again.
                let _ = members::send(*pid, Signal::SIGCONT);
            }
            let what = format!("the servers {database:?} of {names} hang for {seconds} s");
            newcomer(&what).await.map(|()| what)
        }
        3 => {
            for node in &some {
                members::lose_disk(*node)?;
            }
            let what = format!("the disks of {names} are lost");
            newcomer(&what).await.map(|()| what)
        }
        4 => {
            let (what, harm) = *random.one_of(&HARMS);
            members::kill(some[0])?;
            harm(some[0])?;
            let what = format!("{}: {what}", some[0].name());
            newcomer(&what).await.map(|()| what)
        }
        5 => {
            // Its packets with n1 and n2, where the pods are, would be lost.
            net::cables(nodes[2], "down").await?;
            let what = format!("{} is cut off", nodes[2].name());
            let outcome = newcomer(&what).await;
            net::cables(nodes[2], "up").await?;
            outcome.map(|()| what)
        }
        _ => {
            let left: Vec<_> = nodes.into_iter().filter(|node| *node != some[0]).collect();
            members::label(&left).await?;
            let what = format!("{} has no member any more", some[0].name());
            let outcome = newcomer(&what).await;
            members::label(&nodes).await?;
            outcome.map(|()| what)
        }
    }
}

#[tokio::test]
async fn d1_random_faults_of_the_members_leave_nothing_behind() -> Result<()> {
    let mut random = Random::from_environment()?;
    let length = std::env::var("KUBE_OVN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(90);
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-random").await?;
    let hangs = if length > 600 { &HANGS[..] } else { &HANGS[..3] };
    let began = Instant::now();
    let mut done: Vec<String> = Vec::new();
    let faults = async {
        while began.elapsed() < Duration::from_secs(length) {
            let what = harm(&mut random, nodes, hangs, &bystanders).await?;
            let whole = members::whole(&cluster, &nodes, 4 * WHOLE).await.with_context(|| what.clone())?;
            println!("{what}: whole after {whole:.1?}");
            done.push(what);
        }
        Ok(())
    };
    let outcome: Result<()> = Box::pin(faults).await;
    // Whatever has failed, the next test finds three members.
    net::cables(nodes[2], "up").await?;
    members::label(&nodes).await?;
    outcome.with_context(|| format!("after {done:#?}"))?;
    bystanders.end().await
}
