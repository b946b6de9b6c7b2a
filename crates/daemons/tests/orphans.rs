//! Tests reaping in its own process, because it waits for every child that exits.

use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use tokio::io::{AsyncBufReadExt, BufReader};

#[test]
fn orphans_are_taken_in_and_own_children_left_to_who_waits_for_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        set_child_subreaper(true).unwrap();
        let reaping = tokio::spawn(daemons::orphans::reap());
        // The shell's child outlives the shell for a moment. The shell prints the child's process ID.
        let said = daemons::tool::run("sh", ["-c", "sleep 0.2 >/dev/null 2>&1 & echo $!"]).await.unwrap();
        let orphan: i32 = said.trim().parse().unwrap();
        // A zombie still has an entry in /proc.
        let mut gone = tokio::process::Command::new("sh");
        gone.args(["-c", "while [ -e /proc/$0 ]; do sleep 0.02; done; echo gone", &orphan.to_string()]);
        let mut gone = gone.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(gone.stdout.take().unwrap()).lines();
        let said = tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await.expect("it is still there");
        assert_eq!(said.unwrap().as_deref(), Some("gone"));
        for status in 0..20 {
            let failed = daemons::tool::run("sh", ["-c", &format!("exit {status}")]).await;
            assert_eq!(failed.is_ok(), status == 0, "{failed:?}");
        }
        reaping.abort();
    });
}
