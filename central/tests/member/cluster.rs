//! Three members of one cluster.

use std::fs;
use std::time::{Duration, Instant};

use daemons::testing::{Container, Room};
use nix::sys::signal::Signal;

use crate::{complete, room, status};

const ALL: &str = "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4";
/// The northbound database for clients.
const NB: &str = "tcp:10.0.0.1:6641,tcp:10.0.0.2:6641,tcp:10.0.0.3:6641";

/// Returns the arguments of the member with this number.
fn arguments(number: usize, members: &str, tls: &str) -> [String; 6] {
    [
        "--run-directory=/run/ovn".to_owned(),
        "--database-directory=/run/etc".to_owned(),
        format!("--address=10.0.0.{number}"),
        format!("--listen=10.0.0.{number}"),
        format!("--members={members}"),
        tls.to_owned(),
    ]
}

/// Starts a member in a network of its own, with the addresses of all members.
fn first<'a>(room: &'a Room, number: usize, members: &str) -> Container<'a> {
    first_with(room, number, members, "--tls=false")
}

/// Starts such a member with this flag.
pub fn first_with<'a>(room: &'a Room, number: usize, members: &str, tls: &str) -> Container<'a> {
    let addresses = "for address in 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4; do ip address add $address/32 dev lo; done";
    let arguments = arguments(number, members, tls);
    room.start(addresses, &arguments.each_ref().map(String::as_str)).unwrap()
}

/// Starts a member in the network of another one.
fn beside<'a>(other: &mut Container<'_>, room: &'a Room, number: usize) -> Container<'a> {
    beside_with(other, room, number, "--tls=false")
}

/// Starts such a member with this flag.
pub fn beside_with<'a>(other: &mut Container<'_>, room: &'a Room, number: usize, tls: &str) -> Container<'a> {
    let arguments = arguments(number, ALL, tls);
    room.start_beside(other, &arguments.each_ref().map(String::as_str)).unwrap()
}

/// Starts three members of one cluster, which are ready.
fn three(rooms: &[Room; 3]) -> [Container<'_>; 3] {
    let mut one = first(&rooms[0], 1, "10.0.0.1");
    one.until("ready").unwrap();
    let mut two = beside(&mut one, &rooms[1], 2);
    let mut three = beside(&mut one, &rooms[2], 3);
    two.until("ready").unwrap();
    three.until("ready").unwrap();
    [one, two, three]
}

/// Runs `ovn-nbctl`, which finds the leader. It gives up at once when a server refuses its connection.
fn nbctl(member: &mut Container<'_>, command: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = member.run(&[["ovn-nbctl", "--db", NB, "--timeout=5"].as_slice(), command].concat()) {
        assert!(error.to_string().contains("Connection refused") && Instant::now() < deadline, "{error}");
    }
}

/// Returns the switches according to this member's own copy.
fn switches(member: &mut Container<'_>) -> Vec<String> {
    let own = ["ovn-nbctl", "--no-leader-only", "--timeout=20", "--bare", "--columns=name", "list", "Logical_Switch"];
    let mut names: Vec<_> = member.run(&own).unwrap().split_whitespace().map(str::to_owned).collect();
    names.sort();
    names
}

/// Returns the addresses of the servers of both clusters, as this member knows them.
fn servers(member: &mut Container<'_>) -> [Vec<String>; 2] {
    ["nb", "sb"].map(|database| {
        let status = status(member, database);
        let listed = status.lines().skip_while(|line| *line != "Servers:").skip(1);
        let mut addresses: Vec<_> =
            listed.filter_map(|line| Some(line.split_once(" at ")?.1.split_once(')')?.0.to_owned())).collect();
        addresses.sort();
        addresses
    })
}

/// Waits until both clusters have exactly the three servers.
pub fn whole(member: &mut Container<'_>) {
    let expected =
        [6643, 6644].map(|port| [1, 2, 3].map(|number| format!("unix:raft/.10.0.0.{number}:{port}")).to_vec());
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let found = servers(member);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}\n{}", member.run(&["cat", "/run/log"]).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_cluster_of_one_grows_and_members_that_lose_their_files_join_again() {
    let rooms = [room(), room(), room()];
    let mut one = first(&rooms[0], 1, "10.0.0.1");
    one.until("ready").unwrap();
    complete(&mut one);
    nbctl(&mut one, &["--wait=sb", "ls-add", "one"]);

    // It grows while the first member goes on as it is.
    let mut two = beside(&mut one, &rooms[1], 2);
    let mut three = beside(&mut two, &rooms[2], 3);
    two.until("ready").unwrap();
    three.until("ready").unwrap();
    whole(&mut one);
    nbctl(&mut two, &["--wait=sb", "ls-add", "two"]);
    for member in [&mut one, &mut two, &mut three] {
        member.run(&["ovsdb-client", "wait", "unix:/run/ovn/ovnsb_db.sock", "OVN_Southbound", "connected"]).unwrap();
        member.probe("ready").unwrap();
    }
    assert_eq!(switches(&mut three), ["one", "two"]);

    // Started again with the names of the others, it stays a member.
    assert_eq!(one.end(Signal::SIGTERM).unwrap().code(), Some(0));
    let mut one = beside(&mut two, &rooms[0], 1);
    one.until("ready").unwrap();
    whole(&mut one);

    // The disk of each member is lost in turn, the leader's among them. Writes go on, and the member comes back by itself.
    let mut members = [Some(one), Some(two), Some(three)];
    for lost in 0..3 {
        members[lost].take().unwrap().end(Signal::SIGKILL).unwrap();
        let etc = rooms[lost].path("etc");
        if lost == 2 {
            let file = etc.join("ovnnb_db.db");
            fs::write(&file, &fs::read(&file).unwrap()[..100]).unwrap();
            fs::remove_file(etc.join("ovnsb_db.db")).unwrap();
        } else {
            fs::remove_dir_all(&etc).unwrap();
        }
        let other = members[(lost + 1) % 3].as_mut().unwrap();
        let before = Instant::now();
        nbctl(other, &["ls-add", &format!("without-{}", lost + 1)]);
        println!("a write beside a member that is lost: {:?}", before.elapsed());
        let before = Instant::now();
        let mut again = beside(other, &rooms[lost], lost + 1);
        again.until("ready").unwrap();
        whole(&mut again);
        println!("whole again: {:?}", before.elapsed());
        assert!(switches(&mut again).contains(&format!("without-{}", lost + 1)));
        members[lost] = Some(again);
    }
    for member in members.iter_mut().flatten() {
        assert_eq!(switches(member), ["one", "two", "without-1", "without-2", "without-3"]);
    }
    assert!(rooms[2].log().contains("THE DATABASE CANNOT BE READ"), "{}", rooms[2].log());
}

#[test]
fn without_a_majority_a_member_lives_and_is_not_ready() {
    let rooms = [room(), room(), room()];
    let [mut one, two, three] = three(&rooms);
    two.end(Signal::SIGKILL).unwrap();
    three.end(Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while one.probe("ready").is_ok() {
        assert!(Instant::now() < deadline, "still ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    let why = one.probe("ready").unwrap_err();
    assert!(why.contains("it is not connected to the leader of its cluster: "), "{why}");
    one.probe("live").unwrap();

    // A member that starts without a majority waits for it, and does not end.
    let mut two = beside(&mut one, &rooms[1], 2);
    two.until("ready").unwrap();
    one.until("ready").unwrap();
}

#[test]
fn a_member_with_another_address_joins_anew() {
    let rooms = [room(), room(), room()];
    let mut one = first(&rooms[0], 1, "10.0.0.1");
    one.until("ready").unwrap();
    nbctl(&mut one, &["ls-add", "one"]);
    let mut two = beside(&mut one, &rooms[1], 2);
    two.until("ready").unwrap();
    let mut three = beside(&mut one, &rooms[2], 3);
    three.until("ready").unwrap();
    three.end(Signal::SIGTERM).unwrap();
    let mut four = beside(&mut one, &rooms[2], 4);
    four.until("ready").unwrap();
    assert_eq!(switches(&mut four), ["one"]);
    let kept: Vec<_> = fs::read_dir(rooms[2].path("etc")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let kept = kept.iter().filter(|name| name.to_string_lossy().contains(".replaced-")).count();
    assert_eq!(kept, 2, "both files are kept");
}

#[test]
fn a_member_whose_server_was_removed_joins_anew() {
    let rooms = [room(), room(), room()];
    let [mut one, _two, three] = three(&rooms);
    whole(&mut one);
    for (database, schema) in [("nb", "OVN_Northbound"), ("sb", "OVN_Southbound")] {
        let (control, port) = (format!("/run/ovn/ovn{database}_db.ctl"), if database == "nb" { 6643 } else { 6644 });
        let address = format!("unix:raft/.10.0.0.3:{port}");
        one.run(&["ovn-appctl", "-t", &control, "cluster/kick", schema, &address]).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while servers(&mut one).iter().any(|servers| servers.len() == 3) {
        assert!(Instant::now() < deadline, "it is not removed");
        std::thread::sleep(Duration::from_millis(50));
    }
    three.end(Signal::SIGKILL).unwrap();
    let mut three = beside(&mut one, &rooms[2], 3);
    three.until("ready").unwrap();
    whole(&mut three);
    assert!(rooms[2].log().contains("shows that the server left the cluster"), "{}", rooms[2].log());
}
