//! With TLS: who may connect to which port of a member, and change what.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use daemons::testing::{Container, Room};
use keys::{Authority, Identity, Keys, Request, Role};

use crate::cluster::{beside_with, first_with, whole};
use crate::{complete, room};

/// Issues keys in the directories of rooms, which the containers have as `/run`.
pub struct Issuer(Authority);

impl Issuer {
    pub fn new() -> Self {
        let (certificate, key) = Authority::create().unwrap();
        Self(Authority::parse(&certificate, &key, "").unwrap())
    }

    /// Gives a member its key.
    pub fn member(&self, room: &Room, number: u8) {
        let own = self.0.member(&format!("n{number}"), &[IpAddr::from([10, 0, 0, number])]).unwrap();
        Keys::new(room.path("etc/keys")).write(&own, self.0.trusted()).unwrap();
    }

    /// Gives a member another key, and other authorities that it trusts.
    fn replace(&self, room: &Room, trusted: &str) {
        let own = self.0.member("n1", &[IpAddr::from([10, 0, 0, 1])]).unwrap();
        Keys::new(room.path("etc/keys")).write(&own, trusted).unwrap();
    }

    /// Puts a client's key in the room. Returns the flags of OVN's tools for it.
    fn client(&self, room: &Room, role: Role, name: &str) -> Vec<String> {
        let (key, request) = Request::create(&Identity::new(role, name), None).unwrap();
        let own = key + &self.0.sign(Request::parse(&request).unwrap()).unwrap();
        let keys = Keys::new(room.path(name));
        keys.write(&own, self.0.trusted()).unwrap();
        let inside = |file: &str| format!("/run/{name}/{file}");
        vec![
            format!("--private-key={}", inside("tls.pem")),
            format!("--certificate={}", inside("tls.pem")),
            format!("--ca-cert={}", inside("ca.pem")),
        ]
    }
}

/// Runs a transaction in a database. Returns the result, or that there was no answer.
fn transact(member: &mut Container<'_>, key: &[String], server: &str, database: &str, operation: &str) -> String {
    let mut command = vec!["timeout", "5", "ovsdb-client", "-voff"];
    command.extend(key.iter().map(String::as_str));
    let transaction = format!("[\"{database}\", {operation}]");
    command.extend(["transact", server, &transaction]);
    let output = member.exec(&command).unwrap();
    match String::from_utf8_lossy(&output.stdout).trim() {
        "" => "no answer".to_owned(),
        said => said.to_owned(),
    }
}

const NB: &str = "OVN_Northbound";
const SB: &str = "OVN_Southbound";
/// Lets northd begin to write to a southbound database that was founded empty.
const FILL: &str = r#"{"op": "mutate", "table": "SB_Global", "where": [],
    "mutations": [["external_ids", "delete", ["set", ["kube-ovn-incomplete"]]]]}"#;
const SWITCH: &str = r#"{"op": "insert", "table": "Logical_Switch", "row": {"name": "x"}}"#;

fn chassis(name: &str) -> String {
    format!(
        r#"{{"op": "insert", "table": "Chassis", "row": {{"name": "{name}", "hostname": "{name}", "encaps": ["named-uuid", "e"]}}}},
        {{"op": "insert", "table": "Encap", "uuid-name": "e", "row": {{"type": "geneve", "ip": "10.9.9.{}", "chassis_name": "{name}"}}}}"#,
        name.len()
    )
}

#[test]
fn each_key_opens_its_own_doors_and_no_others() {
    let (rooms, issuer) = ([room(), room(), room()], Issuer::new());
    for (room, number) in rooms.iter().zip(1..) {
        issuer.member(room, number);
    }
    // The members speak with each other with their keys.
    let mut one = first_with(&rooms[0], 1, "10.0.0.1", "--tls");
    one.until("ready").unwrap();
    complete(&mut one);
    // A controller reaches an empty southbound database, and fills it. A chassis waits until northd has written to it.
    let (controller, own) = (
        issuer.client(&rooms[0], Role::Controller, "kube-ovn-controller"),
        issuer.client(&rooms[0], Role::Chassis, "chassis"),
    );
    std::thread::sleep(Duration::from_secs(1));
    let options = r#"{"op": "select", "table": "SB_Global", "where": [], "columns": ["options"]}"#;
    let said = transact(&mut one, &controller, "ssl:10.0.0.1:6645", SB, options);
    assert!(said.contains(r#""options":["map",[]]"#), "northd waits, too: {said}");
    assert_eq!(transact(&mut one, &own, "ssl:10.0.0.1:6642", SB, &chassis("chassis")), "no answer");
    assert!(transact(&mut one, &controller, "ssl:10.0.0.1:6645", SB, FILL).contains("\"count\":1"));
    let mut two = beside_with(&mut one, &rooms[1], 2, "--tls");
    two.until("ready").unwrap();
    let mut three = beside_with(&mut one, &rooms[2], 3, "--tls");
    three.until("ready").unwrap();
    whole(&mut one);

    let room = &rooms[0];
    let other = issuer.client(room, Role::Chassis, "other");
    let stranger = Issuer::new().client(room, Role::Controller, "stranger");
    let none: Vec<String> = Vec::new();
    let ports = [6641, 6643, 6644, 6645];
    // The controller writes both databases, and speaks no Raft.
    assert!(transact(&mut one, &controller, "ssl:10.0.0.1:6641", NB, SWITCH).contains("uuid"));
    assert!(transact(&mut one, &controller, "ssl:10.0.0.2:6645", SB, &chassis("by-controller")).contains("uuid"));
    for port in [6643, 6644] {
        assert_eq!(transact(&mut one, &controller, &format!("ssl:10.0.0.1:{port}"), NB, SWITCH), "no answer");
    }
    // Everybody else has no way to them.
    for port in ports {
        for (key, method) in [(&own, "ssl"), (&stranger, "ssl"), (&none, "tcp")] {
            let said = transact(&mut one, key, &format!("{method}:10.0.0.1:{port}"), NB, SWITCH);
            assert_eq!(said, "no answer", "{key:?} {port}");
        }
    }
    // A chassis has the southbound database, and changes itself only.
    for (key, method) in [(&stranger, "ssl"), (&none, "tcp")] {
        assert_eq!(transact(&mut one, key, &format!("{method}:10.0.0.1:6642"), SB, &chassis("x")), "no answer");
    }
    let southbound = "ssl:10.0.0.1:6642";
    assert!(transact(&mut one, &own, southbound, SB, &chassis("chassis")).contains("uuid"));
    let change = |name: &str| {
        format!(
            r#"{{"op": "update", "table": "Chassis", "where": [["name", "==", "{name}"]], "row": {{"external_ids": ["map", [["mine", "yes"]]]}}}}"#
        )
    };
    let remove = |name: &str| format!(r#"{{"op": "delete", "table": "Chassis", "where": [["name", "==", "{name}"]]}}"#);
    assert!(transact(&mut one, &own, southbound, SB, &change("chassis")).contains(r#""count":1"#));
    for (what, why) in [
        (chassis("another"), "prohibit row insertion"),
        (change("by-controller"), "prohibit modification of table"),
        (remove("by-controller"), "prohibit row deletion"),
        (r#"{"op": "delete", "table": "Logical_Flow", "where": []}"#.to_owned(), "prohibit"),
        (r#"{"op": "update", "table": "SB_Global", "where": [], "row": {"nb_cfg": 9}}"#.to_owned(), "prohibit"),
        (r#"{"op": "insert", "table": "RBAC_Role", "row": {"name": "x"}}"#.to_owned(), "prohibit"),
    ] {
        let said = transact(&mut one, &own, southbound, SB, &what);
        assert!(said.contains("permission error") && said.contains(why), "{what}: {said}");
    }
    let said = transact(&mut one, &other, southbound, SB, &change("chassis"));
    assert!(said.contains("permission error"), "{said}");
    let log = rooms[0].log();
    // What a server of Raft answers to a transaction is nothing, too.
    for what in ["cluster of the northbound database", "cluster of the southbound database"] {
        let refused = |why: &str| {
            log.lines().any(|line| line.contains("a client is refused") && line.contains(what) && line.contains(why))
        };
        assert!(refused("role: Controller, name: \\\"kube-ovn-controller\\\" } is no [Member]"), "{what}: {log}");
    }
}

#[test]
fn without_a_key_it_says_where_that_should_be() {
    let room = room();
    let arguments = ["--run-directory=/run/ovn", "--database-directory=/run/etc", "--address=127.0.0.1"];
    assert_eq!(room.start("", &arguments).unwrap().ended().unwrap().code(), Some(1));
    let log = room.log();
    assert!(log.contains("the key in /run/etc/keys: ") && log.contains("; --tls=false does without"), "{log}");
    let _ = fs::remove_dir_all(room.path("etc"));
}

/// An authority is replaced because others may have its key. Who has used that does not stay connected.
#[test]
fn whoever_is_connected_with_a_key_of_a_former_authority_is_cut_off() {
    let (room, former, next) = (room(), Issuer::new(), Issuer::new());
    former.member(&room, 1);
    let mut one = first_with(&room, 1, "10.0.0.1", "--tls");
    one.until("ready").unwrap();
    let key = former.client(&room, Role::Controller, "controller").join(" ");
    let monitor = format!("ovsdb-client -voff {key} monitor ssl:10.0.0.1:6641 {NB} NB_Global >/run/monitor 2>&1");
    one.run(&["sh", "-c", &format!("({monitor}; touch /run/ended) </dev/null >/dev/null 2>&1 &")]).unwrap();
    let until = |name: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !fs::metadata(room.path(name)).is_ok_and(|file| name == "ended" || file.len() > 0) {
            assert!(Instant::now() < deadline, "no {name}: {}", room.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("monitor");
    next.replace(&room, &format!("{}{}", next.0.trusted(), former.0.trusted()));
    std::thread::sleep(Duration::from_secs(1));
    assert!(!room.path("ended").exists(), "while both are trusted, it stays");
    next.replace(&room, next.0.trusted());
    until("ended");
    assert!(room.log().contains("its certificate is not trusted any more"), "{}", room.log());
}
