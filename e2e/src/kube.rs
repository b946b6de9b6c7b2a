//! The Kubernetes control plane as plain processes at 172.30.0.254: etcd, API server, controller manager and scheduler.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

use crate::layout::{CONTROL_PLANE, SERVICES, cache, kubeconfig, state};
use crate::pki::file;
use crate::{pace, process};

/// etcd's client port on the loopback interface. The default port may be in use.
const ETCD: u16 = 12379;

/// One binary contains all Kubernetes programs. The name of the link to it selects the program.
pub const PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// The controllers of the control plane, with the names of their certificate files.
const CONTROLLERS: [(&str, &str); 2] =
    [("kube-controller-manager", "controller-manager"), ("kube-scheduler", "scheduler")];

/// Returns the path of one of [`PROGRAMS`].
pub fn program(name: &str) -> std::path::PathBuf {
    state("bin").join(name)
}

/// Runs `kubectl` with admin rights. Returns its output.
pub async fn kubectl(words: &[&str]) -> Result<String> {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig().display());
    process::run(process::command(program("kubectl"), &[&[kubeconfig.as_str()], words].concat())).await
}

/// Starts the control plane. On return, the API server is ready.
pub async fn up() -> Result<()> {
    link_programs()?;
    process::start("etcd", etcd(ETCD, &state("etcd")))?;
    start_apiserver().await?;
    start_controllers()
}

/// Creates the links by which the programs are started.
pub fn link_programs() -> Result<()> {
    PROGRAMS.iter().try_for_each(|name| Ok(symlink(cache("bin/kube"), program(name))?))
}

/// Restarts the controller manager and the scheduler. In a real cluster they restart when they lose their Lease during
/// an outage of the API server. Without a restart, each would pause for up to a minute before it reconnects.
pub async fn restart_controllers() -> Result<()> {
    for (name, _) in CONTROLLERS {
        process::kill_now(name).await?;
    }
    start_controllers()
}

/// Starts the controller manager and the scheduler.
fn start_controllers() -> Result<()> {
    for (name, own) in CONTROLLERS {
        let conf = file(&format!("{own}.conf"));
        let mut command = process::command(program(name), &["--leader-elect=false", "--bind-address=127.0.0.1"]);
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{flag}={conf}"));
        }
        command.args(["--kube-api-qps=500", "--kube-api-burst=1000"]);
        if own == "controller-manager" {
            command.args([
                "--use-service-account-credentials",
                "--allocate-node-cidrs=false",
                &format!("--service-account-private-key-file={}", file("sa.key")),
                &format!("--root-ca-file={}", file("ca.crt")),
                &format!("--cluster-signing-cert-file={}", file("ca.crt")),
                &format!("--cluster-signing-key-file={}", file("ca.key")),
            ]);
        }
        process::start(name, command)?;
    }
    Ok(())
}

/// Starts the API server with the data in etcd. On return, it is ready.
pub async fn start_apiserver() -> Result<()> {
    process::start("kube-apiserver", apiserver(ETCD, 6443))?;
    // Wait until it is ready, not only until it answers: before its bootstrap roles exist, it rejects the other
    // components, and they do not retry.
    process::ready("kube-apiserver", Duration::from_mins(1), || async {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(client().await?.request_text(request).await.map(drop)?)
    })
    .await
}

/// Waits until pods can be created, that is, until the default namespace has its service account.
pub async fn settled() -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client().await?, "default");
    process::ready("kube-controller-manager", Duration::from_secs(30), || async {
        Ok(accounts.get("default").await.map(drop)?)
    })
    .await
}

/// Returns a client with admin rights.
pub async fn client() -> Result<Client> {
    client_at(None).await
}

/// Like [`client`], for an API server that this program reaches at another address than the lab.
pub async fn client_at(url: Option<http::Uri>) -> Result<Client> {
    let path = kubeconfig();
    let config = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
    let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    config.cluster_url = url.unwrap_or(config.cluster_url);
    config.connect_timeout = Some(pace::limit(Duration::from_secs(5)));
    Ok(Client::try_from(config)?)
}

/// Returns the command of etcd, which serves clients at this port of the loopback interface, and nobody at the next one.
pub fn etcd(port: u16, data: &Path) -> Command {
    let client = format!("http://127.0.0.1:{port}");
    let flags = [
        &format!("--data-dir={}", data.display()),
        "--unsafe-no-fsync", // the data is needed only while the lab runs
        "--quota-backend-bytes=4294967296",
        &format!("--listen-peer-urls=http://127.0.0.1:{}", port + 1),
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
    ];
    process::command(cache("bin/etcd"), &flags)
}

/// Returns the command of the API server, which serves at this port and uses etcd at that one.
pub fn apiserver(etcd: u16, port: u16) -> Command {
    let mut command = process::command(
        program("kube-apiserver"),
        &[
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            "--max-requests-inflight=3000",
            "--max-mutating-requests-inflight=1000",
        ],
    );
    command.arg(format!("--secure-port={port}"));
    command.args([format!("--etcd-servers=http://127.0.0.1:{etcd}"), format!("--advertise-address={CONTROL_PLANE}")]);
    command.arg(format!("--service-cluster-ip-range={SERVICES}"));
    for (flag, name) in [
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("kubelet-client-certificate", "kubelet-client.crt"),
        ("kubelet-client-key", "kubelet-client.key"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
        ("requestheader-client-ca-file", "front.crt"),
        ("proxy-client-cert-file", "front-client.crt"),
        ("proxy-client-key-file", "front-client.key"),
    ] {
        command.arg(format!("--{flag}={}", file(name)));
    }
    command
}
