//! B7: a machine that is no node joins the pod network with the commands of the page, and balances load to pods on two nodes
//! while pods come and go. It is let in by its object alone.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::{ExternalHost, Ip, Subnet};
use e2e::cluster::{Pod, Scene, nb, subnet_ready};
use e2e::layout::{OUTSIDE_NETNS, state};
use e2e::{Cluster, external_host, process};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

/// The time in which the machine joins, leaves, or is let into a subnet.
const SOON: Duration = Duration::from_secs(20);

/// The clients of the load balancer.
const CLIENTS: usize = 3;

#[tokio::test]
async fn b7_an_external_host_balances_load_to_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b7").await?;
    external_host::boot().await?;
    let outcome = Box::pin(joins_and_leaves(&cluster, &scene)).await;
    for name in (0..CLIENTS).map(client).chain([HAPROXY.to_owned()]) {
        process::stop(&state("pid").join(name), Duration::from_secs(2)).await?;
    }
    external_host::off().await?;
    outcome
}

async fn joins_and_leaves(cluster: &Cluster, scene: &Scene) -> Result<()> {
    scene.subnet("b7", "10.49.0.0/24,fd00:49::/64").await?;
    let (one, two) =
        tokio::try_join!(scene.pod("b7", "one").on("n1").ready(), scene.pod("b7", "two").on("n2").ready())?;
    let hosts = Api::<ExternalHost>::all(cluster.client());
    scene.create(external_host::manifest()?).await?;
    // It is told what is missing.
    let waits = |host: &ExternalHost| has_reason(host, "NotJoined");
    cluster.until(hosts.clone(), external_host::NAME, waits).await?;
    external_host::section("Join").await?;
    external_host::section("See that it works").await?;

    let host = cluster.until(hosts.clone(), external_host::NAME, |host| has_reason(host, "Joined")).await?;
    let join = host.status.unwrap_or_default().ip_address;
    let (v4, v6) = join.split_once(',').with_context(|| format!("{join} is not of both families"))?;
    let machine = external_host::place();
    for pod in [&one, &two] {
        for (to, from) in [(pod.ip4()?, v4), (pod.ip6()?, v6)] {
            machine.ping(&to).await?;
            pod.place().ping(from).await?;
            let answer = machine.tcp(&to).await?;
            ensure!(answer.who == pod.name() && answer.seen.to_string() == from, "{to} has seen {answer:?}");
        }
    }

    // With another address of the join subnet it would look like a node.
    machine.run("ip", &["address", "add", "100.64.9.9/32", "dev", "lo"]).await?;
    let from = ["-c", "2", "-W", "1", "-I", "100.64.9.9", &one.ip4()?];
    ensure!(machine.run("ping", &from).await.is_err(), "it sends with an address that is not its own");
    machine.run("ip", &["address", "del", "100.64.9.9/32", "dev", "lo"]).await?;

    private_subnets_do_not_let_it_in(cluster, scene, v4).await?;
    Box::pin(no_request_fails(scene, [one, two], v4)).await?;

    // Without its object it is cut off, also from the databases.
    let three = scene.pod("b7", "three").on("n1").ready().await?;
    let to = three.ip4()?;
    let database = || machine.run("nc", &["-z", "-w", "2", "172.30.0.1", "6642"]);
    database().await.context("it reaches the southbound database")?;
    hosts.delete(external_host::NAME, &DeleteParams::default()).await?;
    cluster.until_gone(Api::<Ip>::all(cluster.client()), "node-lb1").await?;
    process::until(SOON, || async {
        machine.no_ping(&to).await?;
        ensure!(machine.run("ip", &["link", "show", "ovn0"]).await.is_err(), "it has ovn0 still");
        ensure!(database().await.is_err(), "it reaches the southbound database still");
        ensure!(nb::find_southbound("Chassis", &["hostname=lb1"]).await?.is_empty(), "its chassis is there still");
        Ok(())
    })
    .await?;
    // It is let in again without a command there.
    scene.create(external_host::manifest()?).await?;
    process::until(SOON, || machine.ping(&to)).await?;
    external_host::section("Leave").await?;
    let off = || async {
        ensure!(machine.run("ip", &["link", "show", "ovn0"]).await.is_err(), "it has ovn0 still");
        Ok(())
    };
    process::until(SOON, off).await
}

fn has_reason(host: &ExternalHost, reason: &str) -> Result<()> {
    let status = host.status.clone().unwrap_or_default();
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ensure!(ready.as_ref().is_some_and(|ready| ready.reason == reason), "its condition is {ready:?}, not {reason}");
    Ok(())
}

async fn private_subnets_do_not_let_it_in(cluster: &Cluster, scene: &Scene, join: &str) -> Result<()> {
    let spec = json!({ "cidrBlock": "10.50.0.0/24", "private": true, "namespaces": ["b7-private"] });
    let metadata = json!({ "name": "b7-private" });
    scene
        .create(json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": metadata, "spec": spec }))
        .await?;
    let subnets = Api::<Subnet>::all(cluster.client());
    cluster.until(subnets.clone(), "b7-private", subnet_ready).await?;
    scene.namespace("b7-private", &[]).await?;
    let pod = scene.pod("b7-private", "vault").on("n2").ready().await?;
    let (machine, to) = (external_host::place(), pod.ip4()?);
    cluster.node("n1")?.ping(&to).await?;
    machine.no_ping(&to).await?;
    let allow = Patch::Merge(json!({ "spec": { "allowSubnets": [format!("{join}/32")] } }));
    subnets.patch("b7-private", &PatchParams::default(), &allow).await?;
    process::until(SOON, || machine.ping(&to)).await
}

/// The name of the load balancer's process.
const HAPROXY: &str = "haproxy-lb1";

/// The load balancer's settings. A request that fails is not tried again.
const SETTINGS: &str = "
global
    maxconn 1000
    stats socket /run/haproxy.sock mode 600 level admin
defaults
    mode http
    retries 0
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend clients
    bind :8080
    default_backend pods
backend pods
    balance roundrobin
    server-template s 1-4 0.0.0.0:8080 disabled
";

/// Changes the load balancer's servers while it runs.
async fn say(line: &str) -> Result<String> {
    let script = format!("echo {line:?} | socat -t 10 stdio /run/haproxy.sock");
    let said = external_host::place().run("bash", &["-c", &script]).await?;
    // It answers with an empty line or with the new address if all is well, and with nothing if it has not started.
    ensure!(!said.is_empty(), "{line}: no answer");
    ensure!(line.starts_with("show") || said.trim().is_empty() || said.contains(" changed "), "{line}: {said}");
    Ok(said)
}

async fn add(server: &str, pod: &Pod) -> Result<()> {
    say(&format!("set server pods/{server} addr {} port 8080", pod.ip4()?)).await?;
    say(&format!("set server pods/{server} state ready")).await.map(drop)
}

/// Takes a server out of service, and waits for the end of its requests.
async fn remove(server: &str) -> Result<()> {
    say(&format!("set server pods/{server} state drain")).await?;
    process::until(SOON, || async {
        let stat = say("show stat").await?;
        let prefix = format!("pods,{server},");
        let line = stat.lines().find(|line| line.starts_with(&prefix)).context("there is no such server")?;
        ensure!(line.split(',').nth(4) == Some("0"), "{server} has requests: {line}");
        Ok(())
    })
    .await?;
    say(&format!("set server pods/{server} state maint")).await.map(drop)
}

/// The name of a client's process.
fn client(number: usize) -> String {
    format!("b7-client-{number}")
}

/// Asks through the load balancer as fast as it can, in the background, until [`Clients::stop`].
struct Clients(PathBuf);

impl Clients {
    fn start() -> Result<Self> {
        let folder = state("b7-clients");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let url = format!("http://{}:8080/", external_host::MACHINE.ip4());
        for client in 0..CLIENTS {
            fs::write(folder.join(client.to_string()), "")?;
            let script = format!(
                "while [ ! -e stop ]; do curl --silent --show-error --fail --max-time 5 {url} || echo failed; echo; done >>{client} 2>&1"
            );
            let mut command = process::in_netns(OUTSIDE_NETNS, "bash", &["-c", &script]);
            command.current_dir(&folder);
            process::start(&self::client(client), command)?;
        }
        Ok(Self(folder))
    }

    /// Returns all answers.
    fn answers(&self) -> Result<Vec<String>> {
        let texts: Result<Vec<String>> =
            (0..CLIENTS).map(|client| Ok(fs::read_to_string(self.0.join(client.to_string()))?)).collect();
        let lines = texts?.concat();
        Ok(lines.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
    }

    /// Waits until these pods have each answered ten more times.
    async fn answered_by(&self, pods: &[&str]) -> Result<()> {
        let count = |name: &str| -> Result<usize> {
            Ok(self.answers()?.iter().filter(|answer| answer.split(' ').next() == Some(name)).count())
        };
        let before: Result<Vec<usize>> = pods.iter().map(|name| count(name)).collect();
        let before = before?;
        process::until(SOON, || async {
            for (name, before) in pods.iter().zip(&before) {
                let now = count(name)?;
                ensure!(now >= before + 10, "{name} has answered {} times more", now - before);
            }
            Ok(())
        })
        .await
    }

    async fn stop(self) -> Result<Vec<String>> {
        fs::write(self.0.join("stop"), "")?;
        for client in 0..CLIENTS {
            let name = self::client(client);
            process::until(SOON, || async {
                ensure!(!process::runs(&name), "{name} runs");
                Ok(())
            })
            .await?;
        }
        self.answers()
    }
}

async fn no_request_fails(scene: &Scene, [one, two]: [Pod; 2], join: &str) -> Result<()> {
    let settings = state("haproxy.cfg");
    fs::write(&settings, SETTINGS)?;
    let file = settings.display().to_string();
    let machine = external_host::place();
    process::start(HAPROXY, machine.command("haproxy", &["-db", "-f", &file])?)?;
    process::until(SOON, || say("show info")).await?;
    add("s1", &one).await?;
    add("s2", &two).await?;

    let clients = Clients::start()?;
    clients.answered_by(&["one", "two"]).await?;
    // Pods come.
    let (three, four) =
        tokio::try_join!(scene.pod("b7", "three").on("n1").ready(), scene.pod("b7", "four").on("n2").ready())?;
    add("s3", &three).await?;
    add("s4", &four).await?;
    clients.answered_by(&["one", "two", "three", "four"]).await?;
    // Pods go, and others come in their place.
    for (server, pod, node) in [("s1", one, "n2"), ("s2", two, "n1")] {
        remove(server).await?;
        let name = format!("{}-again", pod.name());
        pod.delete().await?;
        let next = scene.pod("b7", &name).on(node).ready().await?;
        add(server, &next).await?;
        clients.answered_by(&["three", "four", &name]).await?;
    }
    for (server, pod) in [("s3", three), ("s4", four)] {
        remove(server).await?;
        pod.delete().await?;
    }
    clients.answered_by(&["one-again", "two-again"]).await?;
    let answers = clients.stop().await?;
    let wrong: Vec<&String> = answers.iter().filter(|answer| answer.split(' ').nth(1) != Some(join)).collect();
    eprintln!("b7: {} requests through the load balancer, {} failed", answers.len(), wrong.len());
    ensure!(wrong.is_empty(), "of {} requests, these failed: {wrong:?}", answers.len());
    Ok(())
}
