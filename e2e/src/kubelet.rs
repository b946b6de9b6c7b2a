//! The Kubernetes programs of a node: containerd with the lab's only image, the kubelet and kube-proxy.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::net::UnixStream;

use crate::layout::{IMAGE, Node, cache, state};
use crate::pki::file;
use crate::{kube, process};

const CONTAINERD: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "@IMAGE@"
  disable_apparmor = true
  restrict_oom_score_adj = true # root may lack CAP_SYS_RESOURCE here, and runc then fails to lower it
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#;

/// The kubelet's maximum backoff for container restarts. It is short, because tests kill many containers.
pub const MOST_PAUSE: &str = "1s";

/// Starts containerd and imports the image. The agent installs all CNI plugins, as on a node that has none.
pub async fn containerd(node: Node) -> Result<()> {
    let dir = node.dir();
    let config = dir.join("containerd.toml");
    fs::write(&config, CONTAINERD.replace("@IMAGE@", IMAGE))?;
    let root = dir.join("root");
    fs::create_dir_all(root.join("etc/cni/net.d"))?;
    fs::create_dir_all(root.join("opt/cni/bin"))?;
    start_containerd(node).await?;
    let image = cache("image.tar").display().to_string();
    process::run(process::on(node, "ctr", &["--namespace", "k8s.io", "images", "import", &image])?).await.map(drop)
}

/// Starts containerd with its existing data. On return, it answers.
pub async fn start_containerd(node: Node) -> Result<()> {
    let (config, name) = (node.dir().join("containerd.toml"), format!("containerd-{}", node.name()));
    process::start(&name, process::on(node, "containerd", &["--config", &config.display().to_string()])?)?;
    // The node's /run is in its own mount namespace. The /proc entry of its process 1 gives access to it.
    let pid = node.pid().context("the node has ended")?;
    let socket = format!("/proc/{pid}/root/run/containerd/containerd.sock");
    process::ready(&name, Duration::from_secs(20), || async { Ok(UnixStream::connect(&socket).await.map(drop)?) }).await
}

/// Starts the kubelet and kube-proxy.
pub fn up(node: Node) -> Result<()> {
    start(node)?;
    proxy(node, ProxyMode::Iptables)
}

/// Starts the kubelet. If the API server is not ready, it registers its node seconds later.
pub fn start(node: Node) -> Result<()> {
    let (name, dir) = (node.name(), node.dir());
    fs::write(dir.join("resolv.conf"), "nameserver 10.96.0.10\n")?;
    let config = dir.join("kubelet.yaml");
    let settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": file("ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": file(&format!("{name}.crt")),
        "tlsPrivateKeyFile": file(&format!("{name}.key")),
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": dir.join("resolv.conf"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 500,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "volumeStatsAggPeriod": "0s",
        "shutdownGracePeriod": "0s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": MOST_PAUSE},
    });
    fs::write(&config, format!("{settings:#}"))?;
    let flags = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", file(&format!("{name}.conf"))),
        format!("--hostname-override={name}"),
        format!("--node-ip={},{}", node.ip4(), node.ip6()),
        "--v=2".to_owned(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    process::start(&format!("kubelet-{name}"), process::on(node, kube::program("kubelet"), &flags)?)
}

/// How kube-proxy writes its rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyMode {
    /// With iptables, as in the lab.
    Iptables,
    /// With nftables, as on new clusters.
    Nftables,
    /// With the kernel's virtual server, for which the machine needs the module `ip_vs`.
    Ipvs,
}

/// Starts kube-proxy anew in this mode. It removes the rules of the other mode.
pub async fn proxy_again(node: Node, mode: ProxyMode) -> Result<()> {
    process::stop(&state("pid").join(format!("kube-proxy-{}", node.name())), Duration::from_secs(10)).await?;
    proxy(node, mode)
}

/// Starts kube-proxy.
pub fn proxy(node: Node, mode: ProxyMode) -> Result<()> {
    let (name, dir) = (node.name(), node.dir());
    let config = dir.join("kube-proxy.yaml");
    let settings = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": file("proxy.conf")},
        "hostnameOverride": name,
        "mode": match mode {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
            ProxyMode::Ipvs => "ipvs",
        },
        // Packets that enter through ovn0 come from a pod of any subnet.
        "detectLocalMode": "InterfaceNamePrefix",
        "detectLocal": {"interfaceNamePrefix": "ovn"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "metricsBindAddress": "127.0.0.1:10249",
    });
    fs::write(&config, format!("{settings:#}"))?;
    let flag = format!("--config={}", config.display());
    process::start(&format!("kube-proxy-{name}"), process::on(node, kube::program("kube-proxy"), &[&flag])?)
}
