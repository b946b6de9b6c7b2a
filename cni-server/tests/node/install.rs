//! The whole agent on a node whose disk takes no files: it is not ready, says why, and installs them later by itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use api::annotations::{NODE_NAME_LABEL, SUBNET_LABEL};
use cni_server::args::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api_server::ApiServer;
use crate::sandbox::{Sandbox, in_netns, run};

/// The address of the agent's endpoint.
const ENDPOINT: &str = "127.0.0.1:10665";

/// An API server with a node that has all it needs.
async fn cluster() -> (ApiServer, tempfile::NamedTempFile) {
    let (server, kubeconfig) = ApiServer::listen().await;
    let address = json!([{ "type": "InternalIP", "address": "172.31.0.1" }]);
    server.put("nodes", "n1", json!({ "metadata": { "uid": "uid-n1" }, "status": { "addresses": address } }));
    let networks = json!([{ "cidr": "100.64.0.0/16", "gateway": "100.64.0.1" }]);
    let join = json!({
        "metadata": { "uid": "uid-join" },
        "spec": { "cidrBlock": "100.64.0.0/16" },
        "status": { "inForce": { "networks": networks, "natOutgoing": false } },
    });
    server.put("subnets", "join", join);
    let ip = json!({
        "metadata": { "labels": { NODE_NAME_LABEL: "n1", SUBNET_LABEL: "join" } },
        "spec": {
            "ipAddress": "100.64.0.2", "macAddress": "0a:00:00:00:00:02", "subnet": "join", "podUid": "uid-n1", "nodeName": "n1",
        },
    });
    server.put("ips", "node-n1", ip);
    run("ip", &["link", "add", "eth1", "type", "veth", "peer", "name", "far"]);
    run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
    run("ip", &["link", "set", "eth1", "up"]);
    (server, kubeconfig)
}

/// Asks the agent whether it is ready.
async fn ready() -> Result<(), String> {
    let mut stream = TcpStream::connect(ENDPOINT).await.map_err(|error| error.to_string())?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    if head.contains(" 200 ") { Ok(()) } else { Err(body.trim().to_owned()) }
}

/// Waits until the agent answers so, with the usual paths.
async fn until(expected: Result<(), &str>, dir: &Path) {
    let expected = expected.map_err(str::to_owned);
    let path = |name: &str| dir.join(name).display().to_string();
    let usual = |said: String| said.replace(&path("net.d"), "/etc/cni/net.d").replace(&path("bin"), "/opt/cni/bin");
    let mut said = Ok(());
    for _ in 0..300 {
        said = ready().await.map_err(usual);
        if said == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {expected:?}, but {said:?}");
}

/// Mounts an empty file system of this size on a folder.
fn mounted(dir: &Path, options: &str) {
    fs::create_dir_all(dir).unwrap();
    run("mount", &["-t", "tmpfs", "-o", options, "none", dir.to_str().unwrap()]);
}

#[test]
fn a_disk_that_takes_no_files_makes_the_agent_not_ready_until_it_does() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        let (_server, kubeconfig) = cluster().await;
        let silent = "the router does not answer at 100.64.0.1 through ovn0: does ovn-controller work?";
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (conf, bin) = (path("net.d"), path("bin"));
        // Room for a part of the plugin.
        mounted(&bin, "size=64k");
        fs::write(path("plugin"), vec![b'p'; 100_000]).unwrap();
        mounted(&conf, "ro");
        let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        let line = [
            "kube-ovn-cni".to_owned(),
            "--node-name=n1".to_owned(),
            "--tls=false".to_owned(),
            flag("kubeconfig", &kubeconfig.path().display()),
            flag("ovs-socket", &sandbox.endpoint()),
            flag("bind-socket", &path("agent.sock").display()),
            flag("metrics-address", &ENDPOINT),
            flag("install-cni-config", &path("plugin").display()),
            flag("cni-conf-dir", &conf.display()),
            flag("cni-bin-dir", &bin.display()),
        ];
        let (args, _) = Args::read(line.into_iter().map(Into::into)).unwrap();
        let agent = tokio::spawn(cni_server::agent::run(args));

        until(Err(silent), dir.path()).await;
        let _router = sandbox.router("100.64.0.1/16");
        let full = "--cni-bin-dir /opt/cni/bin: kube-ovn cannot be written, and so the node takes no pods: No space left on \
            device (os error 28)";
        until(Err(full), dir.path()).await;
        // Nothing of it is left, and nothing says that the node takes pods.
        assert_eq!((fs::read_dir(&bin).unwrap().count(), fs::read_dir(&conf).unwrap().count()), (0, 0));

        run("mount", &["-o", "remount,size=1m", bin.to_str().unwrap()]);
        let read_only = "--cni-conf-dir /etc/cni/net.d: 01-kube-ovn.conflist cannot be written, and so the node takes no pods: \
            Read-only file system (os error 30)";
        until(Err(read_only), dir.path()).await;
        assert_eq!(fs::metadata(bin.join("kube-ovn")).unwrap().len(), 100_000);

        run("mount", &["-o", "remount,rw", conf.to_str().unwrap()]);
        until(Ok(()), dir.path()).await;
        assert!(fs::read_to_string(conf.join("01-kube-ovn.conflist")).unwrap().contains("kube-ovn"));
        agent.abort();
    });
}
