//! Tests a member in its own container with the OVN of the images. Run as root after `e2e/setup rootfs`.
#![allow(clippy::unwrap_used)] // test helpers may panic

use std::fs;
use std::time::{Duration, Instant};

use daemons::testing::{Container, Room};
use nix::sys::signal::Signal;

mod cluster;
mod doors;

fn room() -> Room {
    Room::new(env!("CARGO_BIN_EXE_ovn-central")).unwrap()
}

/// Starts a member at one of the host's two addresses.
fn start<'a>(room: &'a Room, address: &str) -> Container<'a> {
    let addresses = "for address in 10.0.0.1 10.0.0.2; do ip address add $address/32 dev lo; done";
    let arguments = ["--run-directory=/run/ovn", "--database-directory=/run/etc", "--address", address, "--tls=false"];
    room.start(addresses, &arguments).unwrap()
}

/// Writes what the controller writes last to a database that was founded empty: northd translates it from now on.
fn complete(member: &mut Container<'_>) {
    member.run(&["ovn-nbctl", "remove", "NB_Global", ".", "external_ids", "kube-ovn-incomplete"]).unwrap();
}

/// Returns the names of the logical switches.
fn switches(member: &mut Container<'_>) -> String {
    member.run(&["ovn-nbctl", "--bare", "--columns=name", "list", "Logical_Switch"]).unwrap()
}

/// Returns what the server of a database, `nb` or `sb`, says of its cluster.
fn status(member: &mut Container<'_>, database: &str) -> String {
    let schema = if database == "nb" { "OVN_Northbound" } else { "OVN_Southbound" };
    let control = format!("/run/ovn/ovn{database}_db.ctl");
    member.run(&["ovn-appctl", "-t", &control, "cluster/status", schema]).unwrap()
}

/// Sends a signal to the daemon with this pid file.
fn signal(member: &mut Container<'_>, signal: &str, pid_file: &str) {
    member.run(&["sh", "-c", &format!("kill -{signal} $(cat /run/ovn/{pid_file}.pid)")]).unwrap();
}

#[test]
fn it_comes_up_serves_both_families_and_stops_in_order() {
    let room = room();
    let mut member = start(&room, "10.0.0.1");
    member.probe("ready").unwrap_err();
    member.until("ready").unwrap();
    member.probe("live").unwrap();
    let fastest = (0..10).map(|_| {
        let asked = Instant::now();
        member.probe("ready").unwrap();
        asked.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(50), "a probe takes {fastest:?}");

    complete(&mut member);
    member.run(&["ovn-nbctl", "--wait=sb", "ls-add", "one"]).unwrap();
    for server in ["tcp:127.0.0.1:6642", "tcp:[::1]:6642", "tcp:10.0.0.1:6642"] {
        let list = ["ovn-sbctl", "--db", server, "--bare", "--columns=external_ids", "list", "Datapath_Binding"];
        let found = member.run(&list).unwrap();
        assert!(found.contains("name=one"), "{found}");
    }
    let status = status(&mut member, "nb");
    assert!(status.contains("Address: unix:raft/.10.0.0.1:6643\n"), "{status}");

    let before = room.log().len();
    assert_eq!(member.end(Signal::SIGTERM).unwrap().code(), Some(0));
    let log = room.log();
    let stopped: Vec<_> = log[before..].lines().filter(|line| line.contains(": stopped ")).collect();
    for (line, daemon) in stopped.iter().zip(["northd", "sb", "nb"]) {
        assert!(line.contains(&format!("daemon=\"{daemon}\"")) && line.contains("exit status: 0"), "{log}");
    }
    assert_eq!(stopped.len(), 3, "{log}");

    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    assert_eq!(switches(&mut member), "one");
}

#[test]
fn without_ipv6_it_serves_ipv4() {
    let room = room();
    let off = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip address add 10.0.0.1/32 dev lo";
    let arguments = ["--run-directory=/run/ovn", "--database-directory=/run/etc", "--address=10.0.0.1", "--tls=false"];
    let mut member = room.start(off, &arguments).unwrap();
    member.until("ready").unwrap();
    member.run(&["ovn-nbctl", "--db=tcp:10.0.0.1:6641", "show"]).unwrap();
}

#[test]
fn a_daemon_that_is_killed_is_started_again_and_one_that_hangs_is_no_life() {
    let room = room();
    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    complete(&mut member);
    member.run(&["ovn-nbctl", "--wait=sb", "ls-add", "one"]).unwrap();
    for (nth, daemon) in ["ovnnb_db", "ovnsb_db", "ovn-northd"].into_iter().enumerate() {
        let pid_file = format!("/run/ovn/{daemon}.pid");
        let before = member.run(&["cat", &pid_file]).unwrap();
        signal(&mut member, "KILL", daemon);
        member.probe("live").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while room.log().matches("has ended by itself, and is started again").count() == nth {
            assert!(Instant::now() < deadline, "{}", room.log());
            std::thread::yield_now();
        }
        member.until("ready").unwrap();
        assert_ne!(member.run(&["cat", &pid_file]).unwrap(), before);
        member.run(&["ovn-nbctl", "--wait=sb", "sync"]).unwrap();
    }
    assert_eq!(switches(&mut member), "one");

    signal(&mut member, "STOP", "ovnsb_db");
    let why = member.probe("live").unwrap_err();
    assert!(why.contains("sb: /run/ovn/ovnsb_db.ctl: no answer within"), "{why}");
    signal(&mut member, "CONT", "ovnsb_db");
    member.probe("live").unwrap();
    member.until("ready").unwrap();
    member.run(&["ovn-appctl", "-t", "ovn-northd", "pause"]).unwrap();
    let why = member.probe("ready").unwrap_err();
    assert!(why.contains("northd: it is not active: Status: paused"), "{why}");
    member.probe("live").unwrap();

    // Kill all processes at once, as when a container is killed. No data is lost, and leftover files do not disturb the
    // restart.
    member.end(Signal::SIGKILL).unwrap();
    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    assert_eq!(switches(&mut member), "one");
}

#[test]
fn it_waits_for_space_and_then_works() {
    let room = room();
    let disk = "ip address add 10.0.0.1/32 dev lo
        mkdir -p $ROOT/run/etc && mount -t tmpfs -o size=1m tmpfs $ROOT/run/etc
        ! cat /dev/zero >$ROOT/run/etc/filler";
    let arguments = ["--run-directory=/run/ovn", "--database-directory=/run/etc", "--address=10.0.0.1", "--tls=false"];
    let mut member = room.start(disk, &arguments).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !room.log().contains("the file cannot be prepared before there is space") {
        assert!(Instant::now() < deadline, "{}", room.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    member.run(&["rm", "/run/etc/filler"]).unwrap();
    member.until("ready").unwrap();
    assert_eq!(member.end(Signal::SIGTERM).unwrap().code(), Some(0));
}

#[test]
fn another_address_takes_the_data_along_and_what_is_damaged_is_put_aside() {
    let room = room();
    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    complete(&mut member);
    member.run(&["ovn-nbctl", "--wait=sb", "ls-add", "one"]).unwrap();
    member.end(Signal::SIGTERM).unwrap();

    let mut member = start(&room, "10.0.0.2");
    member.until("ready").unwrap();
    assert_eq!(switches(&mut member), "one");
    for (database, port) in [("nb", 6643), ("sb", 6644)] {
        let status = status(&mut member, database);
        assert!(status.contains(&format!("Address: unix:raft/.10.0.0.2:{port}\n")), "{status}");
    }
    member.end(Signal::SIGTERM).unwrap();

    let file = room.path("etc/ovnnb_db.db");
    let damaged = fs::read(&file).unwrap()[..100].to_vec();
    fs::write(&file, &damaged).unwrap();
    let mut member = start(&room, "10.0.0.2");
    member.until("ready").unwrap();
    assert_eq!(switches(&mut member), "");
    let aside = fs::read_dir(room.path("etc")).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains("nb_db.db.damaged-")).collect();
    assert_eq!(fs::read(&aside[0]).unwrap(), damaged);
    assert!(
        room.log().contains("THE DATABASE CANNOT BE READ: its file is kept, and another one takes its place"),
        "{}",
        room.log()
    );
}

#[test]
fn a_database_of_an_older_schema_is_converted_with_what_it_holds() {
    let room = room();
    let older = "
        mkdir -p $DIR/older
        sed 's/^\\( *\"version\": \\)\"[0-9.]*\"/\\1\"5.0.0\"/' $ROOT/usr/share/ovn/ovn-nb.ovsschema >$DIR/older/ovn-nb.ovsschema
        cp $ROOT/usr/share/ovn/ovn-sb.ovsschema $DIR/older
        ip address add 10.0.0.1/32 dev lo
    ";
    let arguments = ["--database-directory=/run/etc", "--address=10.0.0.1", "--tls=false"];
    let mut member = room.start(older, &[&arguments[..], &["--schema-directory=/run/older"]].concat()).unwrap();
    let version = ["ovsdb-client", "get-schema-version", "unix:/run/ovn/ovnnb_db.sock", "OVN_Northbound"];
    member.until("ready").unwrap();
    assert_eq!(member.run(&version).unwrap(), "5.0.0");
    complete(&mut member);
    member.run(&["ovn-nbctl", "--wait=sb", "ls-add", "one"]).unwrap();
    member.end(Signal::SIGTERM).unwrap();

    let mut member = room.start("ip address add 10.0.0.1/32 dev lo", &arguments).unwrap();
    member.until("ready").unwrap();
    let installed = member.run(&["ovsdb-tool", "schema-version", "/usr/share/ovn/ovn-nb.ovsschema"]).unwrap();
    assert_eq!(member.run(&version).unwrap(), installed);
    assert_eq!(switches(&mut member), "one");

    // The backup from before is restored to the newer schema.
    member.run(&["ovn-nbctl", "--wait=sb", "ls-add", "later"]).unwrap();
    let backup = format!("/run/etc/backups/ovnnb_db-before-{}.backup", installed.trim());
    member.run(&["/run/program", "restore", &backup]).unwrap();
    assert_eq!(member.run(&version).unwrap(), installed);
    assert_eq!(switches(&mut member), "one");
}

#[test]
fn an_ovn_that_is_too_old_is_refused_in_words() {
    let room = room();
    room.shadow("ovn-northd", "#!/bin/sh\necho ovn-northd 23.03.1\n").unwrap();
    assert_eq!(start(&room, "10.0.0.1").ended().unwrap().code(), Some(1));
    let log = room.log();
    assert!(log.contains("ovn-northd is of version 23.03.1, and 24.03.1 is the oldest that will do"), "{log}");
    assert!(!room.path("etc").exists());
}

#[test]
fn northd_translates_nothing_before_everything_is_written() {
    let room = room();
    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    member.run(&["ovn-nbctl", "ls-add", "one"]).unwrap();
    let datapaths = ["ovn-sbctl", "--bare", "--columns=external_ids", "list", "Datapath_Binding"];
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(member.run(&datapaths).unwrap(), "");
    assert!(room.log().contains("its clients wait until the controller has written everything"), "{}", room.log());
    complete(&mut member);
    member.run(&["ovn-nbctl", "--wait=sb", "--timeout=10", "sync"]).unwrap();
    assert!(member.run(&datapaths).unwrap().contains("name=one"));
}

#[test]
fn without_the_api_server_one_with_data_starts_and_one_without_waits() {
    let room = room();
    let kubeconfig = "
        apiVersion: v1
        kind: Config
        current-context: none
        clusters: [{name: none, cluster: {server: 'http://127.0.0.1:1'}}]
        contexts: [{name: none, context: {cluster: none, user: none}}]
        users: [{name: none, user: {}}]
    ";
    fs::write(room.path("kubeconfig"), kubeconfig).unwrap();
    let agreeing =
        ["--database-directory=/run/etc", "--address=10.0.0.1", "--node-name=n1", "--kubeconfig=/run/kubeconfig"];
    let address = "ip address add 10.0.0.1/32 dev lo";
    let mut member = room.start(address, &agreeing).unwrap();
    member.until("live").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !room.log().contains("what other members have is not known; trying again") {
        assert!(Instant::now() < deadline, "{}", room.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!room.path("etc/ovnnb_db.db").exists());
    member.end(Signal::SIGTERM).unwrap();

    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    member.run(&["ovn-nbctl", "ls-add", "one"]).unwrap();
    member.end(Signal::SIGTERM).unwrap();
    doors::Issuer::new().member(&room, 1);
    let mut member = room.start(address, &agreeing).unwrap();
    member.until("ready").unwrap();
    assert_eq!(switches(&mut member), "one");
}

#[test]
fn a_backup_brings_back_what_was_there() {
    let room = room();
    let mut member = start(&room, "10.0.0.1");
    member.until("ready").unwrap();
    let backups = || fs::read_dir(room.path("etc/backups")).map(|all| all.map(|entry| entry.unwrap().path()).collect());
    let deadline = Instant::now() + Duration::from_secs(10);
    // The first one is made at once, and the next one after a day.
    let first: Vec<_> = loop {
        match backups() {
            Ok::<Vec<_>, _>(found) if found.iter().any(|path| path.extension().is_some_and(|is| is == "backup")) => {
                break found;
            }
            _ => assert!(Instant::now() < deadline, "{}", room.log()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(first.len(), 1, "{first:?}");
    let name = first[0].file_name().unwrap().to_string_lossy().into_owned();
    let restore = ["/run/program", "restore", &format!("/run/etc/backups/{name}")];
    member.run(&["ovn-nbctl", "ls-add", "later"]).unwrap();
    // Who led then has written its mark, and may write no more.
    let ids = r#"["map", [["kube-ovn-leader-epoch", "5"], ["kube-ovn-leader", "someone"], ["kept", "yes"]]]"#;
    let row = format!(r#"{{"op": "update", "table": "NB_Global", "where": [], "row": {{"external_ids": {ids}}}}}"#);
    let file = first[0].to_string_lossy();
    let written = std::process::Command::new("ovsdb-tool")
        .args(["transact", &file, &format!(r#"["OVN_Northbound", {row}]"#)])
        .output();
    assert!(written.unwrap().status.success());
    member.run(&restore).unwrap();
    assert_eq!(switches(&mut member), "");
    assert_eq!(member.run(&["ovn-nbctl", "get", "NB_Global", ".", "external_ids"]).unwrap().trim(), "{kept=yes}");
    let left = backups().unwrap();
    assert!(!left.iter().any(|path| path.to_string_lossy().contains(".restore-")), "{left:?}");
    let refused = member.exec(&["/run/program", "restore", "/run/etc/backups/missing"]).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/run/etc/backups/missing: No such file"));
}
