//! Security: every TCP port of ours on every node, tried by those who should not reach it and with each kind of key.
//!
//! The test compares what it finds with the tables of `docs/security.md`. With `UPDATE_SECURITY=1`, it writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daemons::control::{self, ControlError};
use e2e::cluster::Place;
use e2e::layout::{Node, rootfs};
use e2e::{Cluster, net};
use k8s_openapi::api::core::v1::Secret;
use keys::tls::Tls;
use keys::{Authority, Identity, Keys, Request, Role};
use kube::Api;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");

/// The programs of the network, as the kernel shortens their names.
const PROGRAMS: [&str; 8] = [
    "ovn-central",
    "ovsdb-server",
    "ovn-northd",
    "ovn-controller",
    "ovs-vswitchd",
    "ovs-ovn",
    "kube-ovn-cni",
    "kube-ovn-contro",
];

const PATIENCE: Duration = Duration::from_secs(2);

/// What happens to somebody who tries a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    NoConnection,
    /// There is a connection, and no answer on it.
    NoAnswer,
    Metrics,
    /// It reads the database, and writes what is its own.
    Own,
    /// It reads and writes everything.
    Everything,
    /// It speaks with a server of the cluster.
    Raft,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::NoConnection => "no connection",
            Self::NoAnswer => "no answer",
            Self::Metrics => "reads metrics",
            Self::Own => "reads, and changes what is its own",
            Self::Everything => "reads and changes everything",
            Self::Raft => "speaks Raft",
        }
    }
}

/// Returns the ports on which a program of ours listens for other machines, with the program.
async fn listeners(node: Node) -> Result<BTreeMap<u16, String>> {
    let said = Place::Node(node).run("ss", &["-Hltnp"]).await?;
    let mut found = BTreeMap::new();
    for line in said.lines() {
        let local = line.split_whitespace().nth(3).with_context(|| line.to_owned())?;
        let (address, port) = local.rsplit_once(':').with_context(|| line.to_owned())?;
        let Some(program) = line.split('"').nth(1).filter(|program| PROGRAMS.contains(program)) else { continue };
        ensure!(!address.starts_with("127."), "{line}: nobody asked for it");
        found.insert(port.parse()?, program.to_owned());
    }
    Ok(found)
}

/// Opens a TCP connection from a node.
async fn open(from: Node, to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let netns = Path::new("/run/netns").join(from.netns());
    let connect = move || {
        net::enter(&netns)?;
        std::net::TcpStream::connect_timeout(&to, PATIENCE)
    };
    let joined =
        tokio::task::spawn_blocking(move || std::thread::spawn(connect).join()).await.map_err(io::Error::other)?;
    let stream = joined.map_err(|_| io::Error::other("the thread has panicked"))??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}

/// Connects from a node with a key, or without TLS.
async fn connect(from: Node, to: SocketAddr, key: Option<&Tls>) -> io::Result<Box<dyn Both>> {
    let stream = open(from, to).await?;
    Ok(match key {
        None => Box::new(stream),
        Some(key) => Box::new(key.connector.connect(Tls::name(), stream).await?),
    })
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Both for S {}

/// Tries operations that are taken back. Returns what the server says to the first that fails, `aborted` if none does.
async fn attempt(
    from: Node,
    to: SocketAddr,
    key: Option<&Tls>,
    database: &str,
    operations: &[Value],
) -> Result<String> {
    let operations: Vec<_> = operations.iter().cloned().chain([json!({"op": "abort"})]).collect();
    match control::read(&to.to_string(), connect(from, to, key), database, &operations).await {
        Err(ControlError::Refused { said, .. }) => Ok(said),
        Err(error) => Err(error.into()),
        Ok(results) => bail!("the server has committed {results:?}"),
    }
}

/// Tries a port.
async fn outcome(from: Node, to: SocketAddr, key: Option<&Tls>) -> Result<Outcome> {
    if open(from, to).await.is_err() {
        return Ok(Outcome::NoConnection);
    }
    if matches!(to.port(), 10660 | 10665) {
        let url = format!("http://{to}/metrics");
        let said = Place::Node(from).run("curl", &["--silent", "--max-time", "2", &url]).await.unwrap_or_default();
        return Ok(if said.contains("# TYPE") { Outcome::Metrics } else { Outcome::NoAnswer });
    }
    let switch = json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "intruder"}});
    let flow = json!({"op": "delete", "table": "SB_Global", "where": []});
    for (database, operation) in [("OVN_Northbound", switch), ("OVN_Southbound", flow)] {
        match attempt(from, to, key, database, &[operation]).await {
            Ok(said) if said.contains("aborted") => return Ok(Outcome::Everything),
            Ok(said) if said.contains("permission error") => return Ok(Outcome::Own),
            Ok(said) if said.contains("unknown database") => {}
            Ok(said) => bail!("{to}: {said}"),
            Err(_) => {}
        }
    }
    // Also the servers of a cluster answer an echo to each other.
    let Ok(mut stream) = connect(from, to, key).await else { return Ok(Outcome::NoAnswer) };
    let echo = json!({"id": "sec", "method": "echo", "params": ["who is there?"]}).to_string();
    let mut said = [0; 256];
    let ask = async {
        stream.write_all(echo.as_bytes()).await?;
        stream.flush().await?;
        stream.read(&mut said).await
    };
    let length = timeout(PATIENCE, ask).await.ok().and_then(Result::ok).unwrap_or_default();
    let answers = String::from_utf8_lossy(&said[..length]).contains("who is there?");
    Ok(if answers { Outcome::Raft } else { Outcome::NoAnswer })
}

/// The keys that are tried.
struct Tried {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Tried {
    /// Reads the authority, as an administrator can.
    async fn new(cluster: &Cluster) -> Result<Self> {
        let secret = Api::<Secret>::namespaced(cluster.client(), "kube-system").get(keys::AUTHORITY).await?;
        let data = secret.data.unwrap_or_default();
        let value = |key: &str| -> Result<String> {
            Ok(String::from_utf8(data.get(key).with_context(|| key.to_owned())?.0.clone())?)
        };
        let authority = Authority::parse(&value("tls.crt")?, &value("tls.key")?, "")?;
        Ok(Self { directory: tempfile::tempdir()?, authority })
    }

    fn tls(&self, name: &str, own: &str) -> Result<Tls> {
        let keys = Keys::new(self.directory.path().join(name));
        keys.write(own, self.authority.trusted())?;
        Ok(Tls::read(&keys)?)
    }

    /// Takes the key of a node from its disk.
    fn stolen(&self, node: Node) -> Result<Tls> {
        let path = node.dir().join("root/etc/origin/openvswitch/keys/tls.pem");
        self.tls("stolen", &fs::read_to_string(&path).with_context(|| path.display().to_string())?)
    }

    fn member(&self) -> Result<Tls> {
        self.tls("member", &self.authority.member("n9", &[])?)
    }

    fn controller(&self) -> Result<Tls> {
        let (key, request) = Request::create(&Identity::new(Role::Controller, "kube-ovn-controller"), None)?;
        self.tls("controller", &(key + &self.authority.sign(Request::parse(&request)?)?))
    }

    /// Makes a key that an authority has signed which nobody knows.
    fn stranger(&self) -> Result<Tls> {
        let (certificate, key) = Authority::create()?;
        self.tls("stranger", &Authority::parse(&certificate, &key, "")?.member("n1", &[])?)
    }
}

/// Returns whether a connection can be opened from a pod or from outside.
async fn opens(from: &Place, to: SocketAddr) -> Result<bool> {
    from.opens(&to.ip().to_string(), &to.port().to_string(), 1).await
}

/// Tries each port of each node. Returns the lines of the table.
async fn ports(cluster: &Cluster, tried: &Tried) -> Result<Vec<String>> {
    let scene = cluster.scene("sec-ports").await?;
    scene.namespace("sec-ports", &[]).await?;
    let pod = scene.pod("sec-ports", "stranger").on("n2").ready().await?;
    let (pod, outside) = (pod.place(), cluster.outside());
    let keys = [
        ("a key of a stranger", tried.stranger()?),
        ("the stolen key of a node", tried.stolen(Node::TWO)?),
        ("a controller's key", tried.controller()?),
        ("a member's key", tried.member()?),
    ];
    let mut lines = BTreeMap::new();
    for node in cluster.nodes() {
        for (port, program) in listeners(node).await? {
            let mut each = Vec::new();
            for address in [node.ip4(), node.ip6()] {
                let to = SocketAddr::new(address.parse::<IpAddr>()?, port);
                if open(Node::TWO, to).await.is_err() {
                    // The controllers and the agents listen where pods have a family.
                    continue;
                }
                let metrics = matches!(port, 10660 | 10665);
                let seen = |open| match (open, metrics) {
                    (false, _) => Outcome::NoConnection,
                    (true, true) => Outcome::Metrics,
                    (true, false) => Outcome::NoAnswer,
                };
                let mut outcomes = vec![seen(opens(&pod, to).await?), seen(opens(&outside, to).await?)];
                outcomes.push(outcome(Node::TWO, to, None).await?);
                for (_, key) in &keys {
                    let outcome = if metrics { Outcome::Metrics } else { outcome(Node::TWO, to, Some(key)).await? };
                    outcomes.push(outcome);
                }
                each.push(outcomes);
            }
            ensure!(!each.is_empty(), "{} {port} of {program} takes no connection of a node", node.name());
            ensure!(each.iter().all(|one| *one == each[0]), "{} {port}: the families differ: {each:?}", node.name());
            let words: Vec<_> = each[0].iter().map(|outcome| outcome.words()).collect();
            let line = format!("| {port} | `{}` | {} |", full(&program), words.join(" | "));
            let other = lines.insert(port, line.clone());
            ensure!(other.as_ref().is_none_or(|other| *other == line), "the nodes differ: {line} and {other:?}");
        }
    }
    let names = keys.map(|(name, _)| name).join(" | ");
    let mut table = vec![
        format!("| TCP port | Program | A pod | A host that is no node | A node, without a key | {names} |"),
        format!("|{}", "---|".repeat(9)),
    ];
    table.extend(lines.into_values());
    Ok(table)
}

fn full(program: &str) -> &str {
    if program == "kube-ovn-contro" { "kube-ovn-controller" } else { program }
}

/// Tries to change each table of the southbound database with the stolen key of a node: rows that are not its own. Returns the
/// lines of the table of what it can.
async fn tables(cluster: &Cluster, tried: &Tried) -> Result<Vec<String>> {
    let central = e2e::central::NODE.ip4().parse()?;
    let (chassis, admin) = (SocketAddr::new(central, 6642), SocketAddr::new(central, 6645));
    let (stolen, member) = (tried.stolen(Node::TWO)?, tried.member()?);
    let select = async |table: &str| -> Result<Vec<Value>> {
        let select = json!({"op": "select", "table": table, "where": []});
        let results =
            control::read("6645", connect(Node::TWO, admin, Some(&member)), "OVN_Southbound", &[select]).await?;
        Ok(results[0]["rows"].as_array().cloned().unwrap_or_default())
    };
    let own = cluster.node_object("n2").await?.metadata.annotations.unwrap_or_default();
    let own = own.get("ovn.kubernetes.io/chassis").context("n2 has no chassis")?.clone();
    let permissions = select("RBAC_Permission").await?;
    let strings = |value: &Value| -> BTreeSet<String> {
        match value[1].as_array() {
            Some(all) if value[0] == "set" => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => value.as_str().map(str::to_owned).into_iter().collect(),
        }
    };
    let mut lines = Vec::new();
    for table in southbound_tables()? {
        let table = table.as_str();
        let permission = permissions.iter().find(|permission| permission["table"] == table);
        let authorization = permission.map(|permission| strings(&permission["authorization"])).unwrap_or_default();
        let of_everybody = authorization.contains("");
        let inserts = permission.is_some_and(|permission| permission["insert_delete"] == true) && of_everybody;
        let columns = permission.map(|permission| strings(&permission["update"])).unwrap_or_default();
        let rows = select(table).await?;
        let is_own = |row: &&Value| row["name"] == own.as_str() || row["chassis_name"] == own.as_str();
        let other = rows.iter().find(|row| !is_own(row));
        let allowed = async |operation: Value| -> Result<bool> {
            let said = attempt(Node::TWO, chassis, Some(&stolen), "OVN_Southbound", &[operation]).await?;
            Ok(said.contains("aborted"))
        };
        if let Some(row) = other {
            let this = json!([["_uuid", "==", row["_uuid"]]]);
            let deletes = allowed(json!({"op": "delete", "table": table, "where": this})).await?;
            ensure!(deletes == inserts, "{table}: it deletes rows of others: {deletes}");
            for (column, value) in row.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('_')) {
                let updates =
                    allowed(json!({"op": "update", "table": table, "where": this, "row": {column: value}})).await?;
                let expected = of_everybody && columns.contains(column);
                ensure!(updates == expected, "{table}.{column}: it changes rows of others: {updates}");
            }
        }
        if permission.is_some() {
            let mut line = format!("| `{table}` | ");
            line += match (of_everybody, inserts) {
                (false, _) => "its own row | nothing |",
                (true, true) => "yes | ",
                (true, false) => "no | ",
            };
            if of_everybody {
                let columns: Vec<_> = columns.iter().map(|column| format!("`{column}`")).collect();
                write!(line, "{} |", if columns.is_empty() { "nothing".to_owned() } else { columns.join(", ") })?;
            }
            lines.push(line);
        } else {
            ensure!(!allowed(json!({"op": "insert", "table": table, "row": {}})).await?, "{table}: it inserts rows");
        }
    }
    let mut table =
        vec!["| Table | Inserts and deletes rows | Changes in rows of others |".to_owned(), "|---|---|---|".to_owned()];
    table.extend(lines);
    Ok(table)
}

/// Returns the names of the tables of the southbound database.
fn southbound_tables() -> Result<Vec<String>> {
    let path = rootfs().join("usr/share/ovn/ovn-sb.ovsschema");
    let schema: Value = serde_json::from_str(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
    let tables = schema["tables"].as_object().context("the schema has no tables")?;
    let mut names: Vec<_> = tables.keys().cloned().collect();
    names.sort();
    Ok(names)
}

/// Compares a table with that of the page, or writes it there.
fn compare(name: &str, table: &[String]) -> Result<()> {
    let page = fs::read_to_string(PAGE)?;
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin).with_context(|| begin.clone())?;
    let (there, after) = rest.split_once(&end).with_context(|| end.clone())?;
    let found = format!("{}\n", table.join("\n"));
    if std::env::var_os("UPDATE_SECURITY").is_some() {
        fs::write(PAGE, format!("{before}{begin}{found}{end}{after}"))?;
        return Ok(());
    }
    ensure!(there == found, "docs/security.md says\n{there}and this is so:\n{found}");
    Ok(())
}

#[tokio::test]
async fn sec_each_port_opens_to_those_who_have_its_key() -> Result<()> {
    let cluster = Cluster::running().await?;
    let tried = Tried::new(&cluster).await?;
    compare("ports", &Box::pin(ports(&cluster, &tried)).await?)
}

#[tokio::test]
async fn sec_the_stolen_key_of_a_node_changes_no_other_chassis() -> Result<()> {
    let cluster = Cluster::running().await?;
    let tried = Tried::new(&cluster).await?;
    compare("tables", &Box::pin(tables(&cluster, &tried)).await?)
}
