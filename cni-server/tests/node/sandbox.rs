//! A network namespace with an Open vSwitch in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use cni_server::ovs::Ovs;
use nix::sched::{CloneFlags, unshare};
use ovn::local::{self, Interface};
use ovsdb::client::{Client, Config, Endpoint};

/// Runs a test in a new network namespace and a mount namespace, on a runtime whose threads are all in them.
pub fn in_netns<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    crate::logs();
    let thread = std::thread::spawn(move || {
        let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        unshare(namespaces).expect("no network namespace: run this test as root");
        run("mount", &["--make-rprivate", "/"]);
        run("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), test()).await.expect("the test hangs") });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program in the namespace of the calling thread. Returns its standard output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program} cannot be run: {e}; install iproute2 and ethtool"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Polls the kernel or Open vSwitch until `is` is true. Fails after 5 seconds.
pub async fn eventually(what: &str, is: impl Fn() -> bool) {
    for _ in 0..200 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

/// A pod's network namespace. It exists as long as this value; its path is valid in this process.
pub struct PodNs {
    file: File,
}

impl PodNs {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self { file: std::thread::spawn(make).join().unwrap() }
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs a program inside.
    pub async fn run(&self, program: &'static str, args: &'static [&'static str]) -> String {
        let netns = links::netns::Netns::open(&self.path()).unwrap();
        netns.run(move || run(program, args)).await.unwrap()
    }
}

/// ovsdb-server and ovs-vswitchd with a bridge `br-int`. They end when this value is dropped, or when the test's thread ends.
pub struct Sandbox {
    dir: tempfile::TempDir,
    server: Child,
    vswitchd: Child,
}

impl Sandbox {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (db, ctl) = (dir.path().join("conf.db"), dir.path().join("vswitchd.ctl"));
        let db = db.to_str().unwrap();
        run("ovsdb-tool", &["create", db, "/usr/share/openvswitch/vswitch.ovsschema"]);
        let server = serve(dir.path());
        let endpoint = endpoint(dir.path()).to_string();
        let vswitchd = daemon("ovs-vswitchd", dir.path(), &[&endpoint, &format!("--unixctl={}", ctl.display())]);
        let sandbox = Self { dir, server, vswitchd };
        sandbox.vsctl(&["--no-wait", "init"]);
        sandbox.vsctl(&[
            "add-br",
            "br-int",
            "--",
            "set",
            "bridge",
            "br-int",
            "datapath_type=netdev",
            "fail-mode=secure",
        ]);
        sandbox
    }

    /// Adds a router with this address, which answers behind the bridge while the returned value lives.
    pub fn router(&self, address: &str) -> PodNs {
        let router = PodNs::new();
        run("ip", &["link", "add", "router", "type", "veth", "peer", "name", "inside", "netns", &router.path()]);
        run("ip", &["link", "set", "router", "up"]);
        let inside = format!("--net={}", router.path());
        run("nsenter", &[&inside, "ip", "address", "add", address, "dev", "inside"]);
        run("nsenter", &[&inside, "ip", "link", "set", "inside", "up"]);
        self.vsctl(&["set", "bridge", "br-int", "fail-mode=standalone", "--", "add-port", "br-int", "router"]);
        router
    }

    /// Stops ovsdb-server.
    pub fn kill_database(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts ovsdb-server again with the same file.
    pub fn start_database(&mut self) {
        self.server = serve(self.dir.path());
    }

    pub fn endpoint(&self) -> Endpoint {
        endpoint(self.dir.path())
    }

    pub fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db={}", self.endpoint());
        run("ovs-vsctl", &[&[db.as_str(), "--timeout=20", "--retry"], args].concat())
    }

    /// `ovs-ofctl VERB br-int ARGS`.
    pub fn ofctl(&self, verb: &str, args: &[&str]) -> String {
        let bridge = format!("unix:{}", self.dir.path().join("br-int.mgmt").display());
        run("ovs-ofctl", &[&["-O", "OpenFlow15", verb, &bridge], args].concat())
    }

    /// `ovs-appctl ARGS`, sent to ovs-vswitchd.
    pub fn appctl(&self, args: &[&str]) -> String {
        let control = self.dir.path().join("vswitchd.ctl").display().to_string();
        run("ovs-appctl", &[&["-t", &control], args].concat())
    }

    pub fn ovs(&self) -> Ovs {
        Ovs::connect(&self.dir.path().join("db.sock"))
    }

    /// Reports the flows of every interface that ovs-vswitchd has opened as installed, as ovn-controller does.
    pub fn play_ovn_controller(&self) {
        let config = Config::new(vec![self.endpoint()], "Open_vSwitch", local::open_vswitch());
        let (client, mut changes) = Client::spawn(config);
        tokio::spawn(async move {
            loop {
                changes.next().await;
                let ops: Vec<_> = client.read(|replica| {
                    let waiting = Interface::all(replica)
                        .filter(|i| i.iface_id().is_some() && i.ofport() > Some(0) && !i.ovn_installed());
                    let tell =
                        |i: Interface<'_>| local::set_external_ids(local::INTERFACE, i.id, [("ovn-installed", "true")]);
                    waiting.map(tell).collect()
                });
                if !ops.is_empty() {
                    // The report is repeated once the client has a session again.
                    if let Err(error) = client.transact(&ops).await {
                        tracing::warn!(%error, "the stand-in for ovn-controller did not write");
                    }
                }
            }
        });
    }

    /// Waits until ovs-vswitchd has applied the contents of the database and has written its results.
    pub fn settle(&self) {
        self.vsctl(&["set", "open_vswitch", ".", &format!("other_config:settled={}", self.written())]);
    }

    /// The size of the database's log in bytes. The columns that ovs-vswitchd reports of the kernel's links at any time
    /// (`link_state`, `mtu`, `mac_in_use`) are ephemeral, so they are not in the log.
    pub fn written(&self) -> u64 {
        std::fs::metadata(self.dir.path().join("conf.db")).unwrap().len()
    }

    /// The names of all ports of the bridge.
    pub fn ports(&self) -> Vec<String> {
        self.vsctl(&["list-ports", "br-int"]).lines().map(str::to_owned).collect()
    }

    pub fn external_ids(&self, interface: &str) -> BTreeMap<String, String> {
        let json =
            self.vsctl(&["--format=json", "--columns=external_ids", "find", "interface", &format!("name={interface}")]);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let pairs = value["data"][0][0][1].as_array().cloned().unwrap_or_default();
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for child in [&mut self.vswitchd, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn endpoint(dir: &Path) -> Endpoint {
    Endpoint::Unix(dir.join("db.sock"))
}

fn serve(dir: &Path) -> Child {
    let remote = format!("--remote=p{}", endpoint(dir));
    let (db, ctl) = (dir.join("conf.db").display().to_string(), format!("--unixctl={}", dir.join("db.ctl").display()));
    daemon("ovsdb-server", dir, &[&db, &remote, &ctl])
}

fn daemon(program: &str, dir: &Path, args: &[&str]) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", program])
        .args(args)
        .args(["--no-chdir", "-vconsole:off", "-vsyslog:off"])
        .env("OVS_RUNDIR", dir)
        .spawn()
        .unwrap_or_else(|e| panic!("{program} does not start: {e}; install openvswitch-switch"))
}

/// Records the changes of routes in the namespace of the calling thread. It ends when this value is dropped.
pub struct RouteMonitor {
    child: Child,
    printed: tempfile::NamedTempFile,
}

impl RouteMonitor {
    /// Starts the record. On return, all later changes are in it.
    pub async fn start() -> Self {
        let printed = tempfile::NamedTempFile::new().unwrap();
        let output = printed.reopen().unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "stdbuf", "-oL", "ip", "monitor", "route"])
            .stdout(output)
            .spawn()
            .unwrap();
        let monitor = Self { child, printed };
        // It has begun when it sees a route that is added for it.
        let mut metric = 0;
        while !monitor.printed().contains("192.0.2.99") {
            metric += 1;
            assert!(metric < 200, "ip monitor shows nothing");
            let route = ["192.0.2.99/32", "dev", "lo", "metric", &metric.to_string()];
            run("ip", &[&["route", "add"], route.as_slice()].concat());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        monitor
    }

    /// Returns what was recorded so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.printed.path()).unwrap()
    }
}

impl Drop for RouteMonitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
