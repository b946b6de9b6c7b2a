//! Measures the CNI plugin, from exec to exit, for pods that already have addresses.
//!
//! The pods are bound to a real node whose kubelet is stopped, so that only this program attaches them. It creates a
//! network namespace for each pod and runs the plugin as a container runtime does.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::PodView;
use kube::Api;
use kube::api::ListParams;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bed::Bed;
use super::idle::Idle;
use super::stats::Times;
use super::usage;
use crate::cluster::Scene;
use crate::layout::{Node, state};
use crate::process;

/// The namespace and the node of these pods.
const NAMESPACE: &str = "bench-plugin";
const NODE: &str = "n1";
/// The number of concurrent calls.
const AT_ONCE: usize = 10;
/// The numbers of other pods on the node, in ascending order, and the number of pods that are measured beside them.
pub const BESIDE: [usize; 3] = [0, 100, 250];
const MEASURED: usize = 20;
/// The number of other pods with which the idle node is measured.
pub const IDLE_WITH: usize = BESIDE[1];
/// The verbs, in this order.
const VERBS: [&str; 2] = ["ADD", "DEL"];

/// The durations of the calls.
#[derive(Clone, Debug)]
pub struct Plugged {
    /// ADDs and DELs one by one. Each pod is detached before the next is attached. One entry per run.
    pub serial: Vec<[Times; 2]>,
    /// ADDs and DELs ten at once, with an idle ovs-vswitchd.
    pub at_once: Vec<[Times; 2]>,
    /// The same, with ADDs right after ten DELs whose ports ovs-vswitchd still has to close.
    pub after_others: Vec<[Times; 2]>,
    /// ADDs and DELs one by one, beside as many other pods as [`BESIDE`] says.
    pub beside: Vec<[Times; 2]>,
    /// The node's own programs in an idle minute, with [`IDLE_WITH`] pods.
    pub idle: Idle,
    /// CPU time by process for all calls.
    pub cpu: Vec<(String, Duration)>,
    /// The number of calls.
    pub calls: usize,
}

/// Creates `count` pods on the node and runs the plugin there for each of them, `runs` times.
pub async fn measure(scene: &Scene, count: usize, runs: usize) -> Result<Plugged> {
    scene.namespace(NAMESPACE, &[]).await?;
    let _stopped = Stopped::kubelet(NODE)?;
    let bed = Bed::new(scene.cluster(), NAMESPACE, [NODE.to_owned()]).await?;
    bed.fill(count.max(BESIDE[BESIDE.len() - 1] + MEASURED)).await?;
    let pods = Api::<PodView>::namespaced(bed.client(), NAMESPACE).list(&ListParams::default()).await?;
    let uids = pods.items.into_iter().filter_map(|p| Some(format!("{}={}", p.metadata.name?, p.metadata.uid?)));
    let uids: Vec<_> = uids.collect();

    let node = Node::named(NODE).context("a node")?;
    let before = usage::cpu()?;
    let (runs, count) = (format!("--runs={runs}"), format!("--count={count}"));
    let mut arguments = vec!["plugin", &runs, &count, NAMESPACE];
    arguments.extend(uids.iter().map(String::as_str));
    let printed = process::run(process::on(node, std::env::current_exe()?, &arguments)?).await?;
    let cpu = usage::spent(&before, &usage::cpu()?);
    let printed: Printed = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    bed.clear().await?;
    let times = |both: Micros| both.map(|micros| micros.into_iter().map(Duration::from_micros).collect());
    let at_once = printed.at_once.iter().chain(&printed.after_others);
    let all = printed.serial.iter().chain(at_once).chain(&printed.beside);
    Ok(Plugged {
        calls: all.flatten().map(Vec::len).sum(),
        serial: printed.serial.into_iter().map(times).collect(),
        at_once: printed.at_once.into_iter().map(times).collect(),
        after_others: printed.after_others.into_iter().map(times).collect(),
        beside: printed.beside.into_iter().map(times).collect(),
        idle: printed.idle.context("the idle node")?,
        cpu,
    })
}

/// A stopped kubelet and its parent process. Dropping it resumes them.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn kubelet(node: &str) -> Result<Self> {
        let pid = process::recorded(&state("pid").join(format!("kubelet-{node}"))).context("its kubelet has ended")?;
        let pids = process::itself(pid).into_iter().chain([pid]);
        let stopped = Self(pids.filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw)).collect());
        kill(*stopped.0.first().context("its kubelet has ended")?, Signal::SIGSTOP)?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT); // fails if the process has exited
        }
    }
}

/// The arguments of `bench plugin`, which runs on a node.
#[derive(clap::Args, Debug)]
pub struct Call {
    /// Number of times to attach each pod.
    #[arg(long)]
    runs: usize,
    /// Number of pods that are attached so many times. The others are only needed beside some.
    #[arg(long)]
    count: usize,
    /// Namespace of the pods.
    namespace: String,
    /// Pods, as `name=uid`.
    pods: Vec<String>,
}

/// Microseconds of the ADDs and of the DELs.
type Micros = [Vec<u64>; 2];

/// The output of `bench plugin`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Printed {
    serial: Vec<Micros>,
    at_once: Vec<Micros>,
    after_others: Vec<Micros>,
    beside: Vec<Micros>,
    idle: Option<Idle>,
}

/// Attaches and detaches pods: alone, several at once, and beside others. Returns JSON for [`measure`]. Stops
/// at the first failed call with the plugin's error.
pub fn call(call: &Call) -> Result<String> {
    let conf = conf()?;
    let pods = call.pods.iter().enumerate().map(|(at, pod)| Container::of(at, &call.namespace, pod));
    let pods: Vec<_> = pods.collect::<Result<_>>()?;
    let mut printed = Printed::default();
    for pod in &pods {
        pod.netns("add")?;
    }
    for _ in 0..call.runs {
        let [mut serial, mut at_once, mut after_others] = [const { [Vec::new(), Vec::new()] }; 3];
        let some = pods.get(..call.count).context("fewer pods than that")?;
        for pod in some.chunks(1) {
            one_by_one(pod, &conf, &mut serial)?;
        }
        for group in some.chunks_exact(AT_ONCE) {
            settle()?;
            all_at_once(group, &conf, &mut at_once)?;
            all_at_once(group, &conf, &mut after_others)?;
        }
        printed.serial.push(serial);
        printed.at_once.push(at_once);
        printed.after_others.push(after_others);
    }
    beside_others(&pods, &conf, &mut printed)?;
    for pod in &pods {
        pod.netns("delete")?;
    }
    Ok(serde_json::to_string(&printed)?)
}

/// Attaches more and more pods, and measures the last ones beside them. All are detached at the end.
fn beside_others(pods: &[Container], conf: &str, printed: &mut Printed) -> Result<()> {
    let (others, measured) = pods.split_at(pods.len().checked_sub(MEASURED).context("too few pods")?);
    let mut attached = 0;
    for count in BESIDE {
        for pod in others.get(attached..count).context("too few pods")? {
            pod.plugin("ADD", conf)?;
        }
        attached = count;
        settle()?;
        if count == IDLE_WITH {
            printed.idle = Some(Idle::measure()?);
        }
        let mut times = Micros::default();
        for pod in measured.chunks(1) {
            one_by_one(pod, conf, &mut times)?;
        }
        printed.beside.push(times);
    }
    others.iter().take(attached).try_for_each(|pod| pod.plugin("DEL", conf).map(drop))
}

fn one_by_one(pods: &[Container], conf: &str, times: &mut Micros) -> Result<()> {
    for (verb, times) in VERBS.into_iter().zip(times) {
        for pod in pods {
            times.push(pod.plugin(verb, conf)?);
        }
    }
    Ok(())
}

fn all_at_once(group: &[Container], conf: &str, times: &mut Micros) -> Result<()> {
    for (verb, times) in VERBS.into_iter().zip(times) {
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for pod in group {
                let sender = sender.clone();
                scope.spawn(move || sender.send(pod.plugin(verb, conf)));
            }
        });
        drop(sender);
        for took in results {
            times.push(took?);
        }
    }
    Ok(())
}

/// Waits until ovs-vswitchd has applied the whole database and closed the devices of deleted ports. `ovs-vsctl` waits
/// for this after each change.
fn settle() -> Result<()> {
    let change = [
        "--timeout=60",
        "--db=unix:/run/openvswitch/db.sock",
        "--",
        "set",
        "Open_vSwitch",
        ".",
        "external_ids:bench=1",
    ];
    let undo = [
        "--timeout=60",
        "--db=unix:/run/openvswitch/db.sock",
        "--",
        "remove",
        "Open_vSwitch",
        ".",
        "external_ids",
        "bench",
    ];
    for arguments in [change.as_slice(), &undo] {
        let status = Command::new("ovs-vsctl").args(arguments).status().context("ovs-vsctl")?;
        ensure!(status.success(), "ovs-vsctl {arguments:?}: {status}");
    }
    Ok(())
}

/// Returns the configuration of the conflist's first plugin as the runtime passes it.
fn conf() -> Result<String> {
    let path = "/etc/cni/net.d/01-kube-ovn.conflist";
    let list: Value = serde_json::from_slice(&std::fs::read(path).context(path)?)?;
    let mut conf = list["plugins"][0].clone();
    ensure!(conf["type"] == "kube-ovn", "the first plugin of {path} is {}", conf["type"]);
    for key in ["cniVersion", "name"] {
        conf[key] = list[key].clone();
    }
    Ok(json!(conf).to_string())
}

#[derive(Debug)]
struct Container {
    id: String,
    netns: String,
    arguments: String,
}

impl Container {
    fn of(at: usize, namespace: &str, pod: &str) -> Result<Self> {
        let (name, uid) = pod.split_once('=').context("a pod is name=uid")?;
        Ok(Self {
            // The name of the host end contains the first twelve characters.
            id: format!("be{at:010x}{:052}", 0),
            netns: format!("bench-{at}"),
            arguments: format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}"),
        })
    }

    fn netns(&self, verb: &str) -> Result<()> {
        let status = Command::new("ip").args(["netns", verb, &self.netns]).status()?;
        ensure!(status.success(), "ip netns {verb} {}: {status}", self.netns);
        Ok(())
    }

    /// Runs the plugin. Returns the microseconds from exec to exit.
    fn plugin(&self, verb: &str, conf: &str) -> Result<u64> {
        let mut command = Command::new("/opt/cni/bin/kube-ovn");
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", format!("/run/netns/{}", self.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", &self.arguments)
            .env("CNI_PATH", "/opt/cni/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut plugin = command.spawn().context("/opt/cni/bin/kube-ovn")?;
        plugin.stdin.take().context("a pipe")?.write_all(conf.as_bytes())?;
        let output = plugin.wait_with_output()?;
        let took = start.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{verb} of {}: {}: {said}", self.arguments, output.status);
        Ok(u64::try_from(took.as_micros())?)
    }
}
