//! Tests a crew with real processes: shell scripts instead of daemons.
#![allow(clippy::unwrap_used)] // test helpers may panic

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use daemons::crew::{Crew, CrewError, Part};
use daemons::member::Member;
use tokio::process::Command;
use tokio::sync::{oneshot, watch};

/// A script that works once it has created its file. It writes to a journal when it starts and when it is asked to
/// exit.
struct Script {
    name: &'static str,
    text: &'static str,
    dir: PathBuf,
    patience: Duration,
}

impl Script {
    fn note(&self, what: &str) {
        use std::io::Write;
        let mut journal = std::fs::File::options().create(true).append(true).open(self.dir.join("journal")).unwrap();
        writeln!(journal, "{what} {}", self.name).unwrap();
    }
}

impl Part for Script {
    type Error = String;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&mut self) -> Result<Command, String> {
        self.note("start");
        if self.name == "endless" {
            std::future::pending::<()>().await;
        }
        let _ = std::fs::remove_file(self.dir.join(self.name));
        let mut command = Command::new("sh");
        command.args(["-c", self.text, self.name]).current_dir(&self.dir);
        Ok(command)
    }

    async fn check(&self, _: u32) -> Result<(), String> {
        if self.dir.join(self.name).exists() { Ok(()) } else { Err("no file yet".to_owned()) }
    }

    async fn finish_start(&mut self, _: u32) -> Result<(), String> {
        self.note("finish_start");
        Ok(())
    }

    async fn exit(&mut self, _: u32) -> Result<(), String> {
        self.note("exit");
        Err("it has no socket".to_owned())
    }

    fn is_dispensable(&self) -> bool {
        self.name == "dispensable"
    }

    fn is_independent(&self) -> bool {
        self.name == "independent"
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

/// Works at once and runs until it is stopped.
const GOOD: &str = "touch $0; exec sleep 600";

/// A running crew and its stop handle.
struct Running {
    dir: tempfile::TempDir,
    members: watch::Receiver<Vec<Member>>,
    stop: oneshot::Sender<()>,
    crew: tokio::task::JoinHandle<Result<(), CrewError>>,
}

impl Running {
    fn start(scripts: &[(&'static str, &'static str)], patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let part = |(name, script): &(&'static str, &'static str)| Script {
            name,
            text: script,
            dir: dir.path().to_owned(),
            patience,
        };
        let crew = Crew::new(scripts.iter().map(part), Duration::from_millis(500));
        let members = crew.members();
        let (stop, stopped) = oneshot::channel::<()>();
        let crew = tokio::task::spawn_local(crew.run(async move { stopped.await.unwrap_or_default() }));
        Self { dir, members, stop, crew }
    }

    /// Waits until all daemons work, each with a process that is not in `than`.
    async fn all(&mut self, than: &[u32]) -> Vec<u32> {
        let all = |members: &Vec<Member>| {
            let pids = members.iter().filter(|member| member.is_up).filter_map(|member| member.pid);
            pids.filter(|pid| !than.contains(pid)).count() == members.len()
        };
        let members = tokio::time::timeout(Duration::from_secs(20), self.members.wait_for(all)).await.unwrap().unwrap();
        members.iter().filter_map(|member| member.pid).collect()
    }

    fn journal(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("journal")).unwrap().replace('\n', ", ")
    }
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Runs a test on one thread, as the programs do.
fn test(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(future));
}

#[test]
fn they_start_in_order_and_stop_in_reverse_and_none_is_left() {
    test(async {
        let slow = "sleep 0.2; touch $0; exec sleep 600";
        let mut running = Running::start(&[("first", slow), ("second", GOOD)], Duration::from_secs(10));
        let pids = running.all(&[]).await;
        running.stop.send(()).unwrap();
        running.crew.await.unwrap().unwrap();
        let journal = Running::journal(running.dir.path());
        assert_eq!(
            journal,
            "start first, finish_start first, start second, finish_start second, exit second, exit first, "
        );
        assert!(!pids.into_iter().any(runs));
    });
}

#[test]
fn one_that_ends_is_started_again_and_the_others_stay() {
    test(async {
        let mut running = Running::start(&[("first", GOOD), ("second", GOOD)], Duration::from_secs(10));
        let before = running.all(&[]).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(before[0].cast_signed()), nix::sys::signal::SIGKILL).unwrap();
        let changed = |members: &Vec<Member>| members[0].is_up && members[0].pid != Some(before[0]);
        running.members.wait_for(changed).await.unwrap();
        let after = running.all(&[]).await;
        assert_eq!((after[1], after[0] != before[0]), (before[1], true));
        running.stop.send(()).unwrap();
        running.crew.await.unwrap().unwrap();
    });
}

#[test]
fn one_that_ends_again_and_again_is_given_up_and_the_others_are_stopped() {
    test(async {
        let running = Running::start(&[("first", GOOD), ("second", "exit 3")], Duration::from_secs(10));
        let failed = running.crew.await.unwrap().unwrap_err().to_string();
        assert_eq!(failed, "second has ended 6 times within 60s, the last time by exit status: 3");
        assert!(Running::journal(running.dir.path()).ends_with("start second, exit first, "));
        assert!(running.members.borrow().iter().all(|member| member.pid.is_none()));
    });
}

#[test]
fn the_others_go_on_without_a_dispensable_one() {
    test(async {
        for useless in ["exit 3", "exec sleep 600"] {
            let mut running = Running::start(&[("first", GOOD), ("dispensable", useless)], Duration::from_millis(200));
            let works = |members: &Vec<Member>| members[0].is_up;
            let before = running.members.wait_for(works).await.unwrap()[0].pid.unwrap();
            // By then one has ended for the sixth time, and the other one is late.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let members = running.members.borrow().clone();
            assert_eq!((members[0].pid, members[1].is_up), (Some(before), false), "{useless}");
            // The first one is started again although the other waits.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(before.cast_signed()), nix::sys::signal::SIGKILL)
                .unwrap();
            let again = |members: &Vec<Member>| members[0].is_up && members[0].pid != Some(before);
            tokio::time::timeout(Duration::from_secs(5), running.members.wait_for(again)).await.unwrap().unwrap();
            running.stop.send(()).unwrap();
            running.crew.await.unwrap().unwrap();
        }
    });
}

/// As when a file is prepared for hours.
#[test]
fn an_independent_one_does_not_wait_for_the_start_of_another() {
    test(async {
        let scripts = [("first", GOOD), ("endless", GOOD), ("independent", GOOD), ("last", GOOD)];
        let mut running = Running::start(&scripts, Duration::from_secs(10));
        let works = |index: usize, than: u32| {
            move |members: &Vec<Member>| members[index].is_up && members[index].pid != Some(than)
        };
        for index in [0, 2] {
            let before = running.members.wait_for(works(index, 0)).await.unwrap()[index].pid.unwrap();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(before.cast_signed()), nix::sys::signal::SIGKILL)
                .unwrap();
            let again = running.members.wait_for(works(index, before));
            tokio::time::timeout(Duration::from_secs(5), again).await.unwrap().unwrap();
        }
        assert_eq!(running.members.borrow()[3].pid, None, "the last one waits for all");
        running.stop.send(()).unwrap();
        running.crew.await.unwrap().unwrap();
    });
}

#[test]
fn one_that_never_works_is_named_with_what_it_lacks() {
    test(async {
        let running = Running::start(&[("first", "exec sleep 600")], Duration::from_millis(200));
        let failed = running.crew.await.unwrap().unwrap_err().to_string();
        assert_eq!(failed, "first does not work 200ms after it was started: no file yet");
    });
}

#[test]
fn one_that_does_not_listen_is_killed_when_its_time_is_up() {
    test(async {
        let deaf = "trap '' TERM; touch $0; while :; do sleep 0.05; done";
        let mut running = Running::start(&[("first", deaf)], Duration::from_secs(10));
        let pids = running.all(&[]).await;
        let asked = Instant::now();
        running.stop.send(()).unwrap();
        running.crew.await.unwrap().unwrap();
        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
        assert!(!runs(pids[0]));
    });
}

#[test]
fn it_can_be_stopped_while_it_starts() {
    test(async {
        let mut running = Running::start(&[("first", GOOD), ("second", "exec sleep 600")], Duration::from_secs(10));
        let started = |members: &Vec<Member>| members[1].pid.is_some();
        let pid = running.members.wait_for(started).await.unwrap()[1].pid.unwrap();
        running.stop.send(()).unwrap();
        running.crew.await.unwrap().unwrap();
        assert!(!runs(pid));
    });
}
