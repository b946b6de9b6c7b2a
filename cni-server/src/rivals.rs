//! Detects CNI configurations of other networks. The container runtime uses the first file by name in its configuration
//! directory for new pods.
//!
//! The agent watches the directory (inotify(7)) and never changes other networks' files. A file that comes before ours
//! is an error as long as it exists, unless it delegates to our plugin, as Multus does. A file that comes after ours is
//! logged once. If our file is removed, the agent reports this as an error. It does not write the file again, because
//! another network could keep removing it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// The interval at which the directory is read if it cannot be watched.
const RETRY: Duration = Duration::from_secs(30);

/// The file extensions that runtimes read (libcni and containerd's go-cni).
const READ: [&str; 3] = [".conf", ".conflist", ".json"];

/// The location of our conflist.
#[derive(Clone, Debug)]
pub struct Rivals {
    /// The runtime's configuration directory.
    pub conf_dir: PathBuf,
    /// The name of our file.
    pub conf_name: String,
}

/// Configuration files, in the order in which a runtime reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    /// Files before ours that do not delegate to our plugin.
    before: Vec<String>,
    /// Files before ours that delegate to our plugin.
    leading: Vec<String>,
    /// Files after ours.
    after: Vec<String>,
    /// Whether our file exists.
    ours: bool,
}

/// Why the directory cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}: {source}", dir.display())]
struct WatchError {
    dir: PathBuf,
    what: &'static str,
    source: io::Error,
}

impl Rivals {
    /// Starts watching. The receiver contains `Ok` if new pods get our network as far as these files decide, or the
    /// reason why not.
    pub fn spawn(self) -> watch::Receiver<Result<(), String>> {
        let (sender, receiver) = watch::channel(Ok(()));
        let mut reported = Reported::default();
        // The state must be known before the first reader asks.
        if let Ok(found) = self.look() {
            self.report(&found, &mut reported, &sender);
        }
        tokio::spawn(async move {
            let mut failure = String::new();
            loop {
                let Err(error) = self.follow(&mut reported, &sender).await;
                let error = error.to_string();
                if failure != error {
                    tracing::error!(error, "the files of other networks cannot be watched; looking every {RETRY:?}");
                    failure = error;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
        receiver
    }

    /// Checks the directory after each change. Returns when it cannot be watched.
    async fn follow(
        &self,
        reported: &mut Reported,
        sender: &watch::Sender<Result<(), String>>,
    ) -> Result<Infallible, WatchError> {
        let failed = |what| move |source: io::Error| WatchError { dir: self.conf_dir.clone(), what, source };
        loop {
            std::fs::create_dir_all(&self.conf_dir).map_err(failed("make it"))?;
            let watched = Watch::of(&self.conf_dir);
            // Read the directory after the watch has started, so that no change is missed. Also read it if the watch
            // failed.
            self.report(&self.look().map_err(failed("read it"))?, reported, sender);
            let watched = watched.map_err(failed("watch it"))?;
            // Ends when the directory is deleted or renamed.
            while watched.changed().await.map_err(failed("watch it"))? {
                self.report(&self.look().map_err(failed("read it"))?, reported, sender);
            }
        }
    }

    fn look(&self) -> io::Result<Found> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.conf_dir)? {
            let entry = entry?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Ok(name) = entry.file_name().into_string()
                && !is_dir
                && READ.iter().any(|end| name.ends_with(end))
            {
                names.insert(name);
            }
        }
        let mut found = Found { ours: names.remove(&self.conf_name), ..Found::default() };
        for name in names {
            if name > self.conf_name {
                found.after.push(name);
            } else if leads_to(&self.conf_dir.join(&name), &self.conf_name) {
                found.leading.push(name);
            } else {
                found.before.push(name);
            }
        }
        Ok(found)
    }

    /// Returns the message for a file that comes after ours.
    fn later(&self, file: &str) -> String {
        let (dir, ours) = (self.conf_dir.display(), &self.conf_name);
        format!("--cni-conf-dir {dir}: another network's {file} is there; {ours} comes before it, so pods get ours")
    }

    /// Looks at the directory once. Our file must be there.
    pub fn state(&self) -> Result<(), String> {
        let found = self.look().map_err(|error| format!("--cni-conf-dir {}: {error}", self.conf_dir.display()))?;
        self.verdict(&found, true)
    }

    fn verdict(&self, found: &Found, had_ours: bool) -> Result<(), String> {
        let (dir, ours) = (self.conf_dir.display(), &self.conf_name);
        match found.before.as_slice() {
            [] if had_ours && !found.ours => Err(format!(
                "--cni-conf-dir {dir}: {ours} was taken away, and new pods do not get our network: another network does so that \
                 wants to be alone; take that away, and start this pod anew"
            )),
            [] => Ok(()),
            files => Err(format!(
                "--cni-conf-dir {dir}: {} comes before {ours}, and the container runtime takes the first by name, so new pods \
                 get another network: take it away, with the network that put it there",
                files.join(", ")
            )),
        }
    }

    fn report(&self, found: &Found, reported: &mut Reported, sender: &watch::Sender<Result<(), String>>) {
        let (dir, ours) = (self.conf_dir.display(), &self.conf_name);
        let before =
            std::mem::replace(reported, Reported { files: found.clone(), had_ours: reported.had_ours || found.ours });
        for file in news(&found.leading, &before.files.leading) {
            tracing::info!(file, "the container runtime comes to {dir}/{file} first, which hands pods on to us");
        }
        for file in news(&found.after, &before.files.after) {
            tracing::warn!("{}", self.later(file));
        }
        let now = self.verdict(found, reported.had_ours);
        sender.send_if_modified(|before| {
            if *before == now {
                return false;
            }
            match &now {
                Ok(()) => tracing::info!("no other network comes before {ours} in {dir} any more"),
                Err(why) => tracing::error!("{why}"),
            }
            *before = now;
            true
        });
    }
}

/// What was already reported.
#[derive(Debug, Default)]
struct Reported {
    files: Found,
    /// Whether our file existed at some time since the watch started.
    had_ours: bool,
}

/// Returns the files that are new.
fn news<'a>(now: &'a [String], before: &[String]) -> impl Iterator<Item = &'a String> {
    now.iter().filter(|file| !before.contains(file))
}

/// Returns true if another network's file delegates to ours: it names our conflist or calls our plugin.
fn leads_to(path: &Path, conf_name: &str) -> bool {
    let read = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    read.is_some_and(|conf: Value| calls(&conf, conf_name))
}

fn calls(conf: &Value, conf_name: &str) -> bool {
    match conf {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| (key == "type" && value == "kube-ovn") || calls(value, conf_name))
        }
        Value::Array(items) => items.iter().any(|item| calls(item, conf_name)),
        Value::String(text) => Path::new(text).file_name().is_some_and(|name| name == conf_name),
        _ => false,
    }
}

/// A watched directory.
struct Watch(AsyncFd<Events>);

/// The descriptor for tokio. It stays open until it is dropped.
struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    #[allow(
        deprecated,
        reason = "the other way is unsafe, for descriptors that others may close: nobody else has this one"
    )]
    fn of(dir: &Path) -> io::Result<Self> {
        use AddWatchFlags as On;
        let events = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let files = On::IN_CREATE | On::IN_DELETE | On::IN_MOVED_FROM | On::IN_MOVED_TO | On::IN_CLOSE_WRITE;
        events.add_watch(dir, files | On::IN_DELETE_SELF | On::IN_MOVE_SELF | On::IN_ONLYDIR)?;
        Ok(Self(AsyncFd::new(Events(events))?))
    }

    /// Waits for a change. Returns false if the directory was deleted or renamed.
    async fn changed(&self) -> io::Result<bool> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(events) => return Ok(!events.iter().any(ends)),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns true if the directory was deleted or renamed.
fn ends(event: &InotifyEvent) -> bool {
    use AddWatchFlags as On;
    event.mask.intersects(On::IN_DELETE_SELF | On::IN_MOVE_SELF | On::IN_IGNORED | On::IN_UNMOUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const OURS: &str = "01-kube-ovn.conflist";

    fn folder() -> (tempfile::TempDir, Rivals) {
        let dir = tempfile::tempdir().unwrap();
        let rivals = Rivals { conf_dir: dir.path().join("net.d"), conf_name: OURS.to_owned() };
        (dir, rivals)
    }

    #[test]
    fn only_what_a_runtime_reads_counts_and_the_order_is_that_of_names() {
        let (_dir, rivals) = folder();
        fs::create_dir(&rivals.conf_dir).unwrap();
        for name in [OURS, "10-flannel.conflist", "00-bridge.conf", "05-cilium.conflist.bak", "02-x.json", "README"] {
            fs::write(rivals.conf_dir.join(name), "{}").unwrap();
        }
        fs::create_dir(rivals.conf_dir.join("00-folder.conf")).unwrap();
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = rivals.look().unwrap();
        assert!(found.ours);
        assert_eq!(found.before, list(&["00-bridge.conf"]));
        assert_eq!(found.after, list(&["02-x.json", "10-flannel.conflist"]));
    }

    #[test]
    fn one_that_comes_after_ours_is_told_of_and_nothing_else() {
        let rivals = Rivals { conf_dir: "/etc/cni/net.d".into(), conf_name: OURS.to_owned() };
        assert_eq!(
            rivals.later("10-flannel.conflist"),
            "--cni-conf-dir /etc/cni/net.d: another network's 10-flannel.conflist is there; 01-kube-ovn.conflist comes before \
             it, so pods get ours"
        );
    }

    #[test]
    fn only_what_has_appeared_is_told_of_and_again_when_it_comes_back() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(news(&list(&["a", "b"]), &list(&["a"])).collect::<Vec<_>>(), ["b"]);
        assert_eq!(news(&list(&["a"]), &[]).count(), 1);
    }

    #[test]
    fn one_that_hands_pods_on_to_us_is_none() {
        for (conf, leads) in [
            (r#"{"type": "multus-shim", "clusterNetwork": "/host/etc/cni/net.d/01-kube-ovn.conflist"}"#, true),
            (r#"{"type": "multus", "delegates": [{"plugins": [{"type": "kube-ovn"}, {"type": "portmap"}]}]}"#, true),
            (r#"{"type": "multus-shim", "clusterNetwork": "/host/etc/cni/net.d/10-flannel.conflist"}"#, false),
            (r#"{"name": "kube-ovn", "plugins": [{"type": "bridge"}]}"#, false),
            ("{", false),
        ] {
            let (_dir, rivals) = folder();
            fs::create_dir(&rivals.conf_dir).unwrap();
            fs::write(rivals.conf_dir.join("00-multus.conf"), conf).unwrap();
            let found = rivals.look().unwrap();
            assert_eq!((found.leading.len(), found.before.len()), (usize::from(leads), usize::from(!leads)), "{conf}");
        }
    }

    #[tokio::test]
    async fn one_before_ours_is_an_error_until_it_is_gone_and_is_not_touched() {
        let (_dir, rivals) = folder();
        let conf_dir = rivals.conf_dir.clone();
        let mut state = rivals.spawn();
        assert_eq!(*state.borrow(), Ok(()));
        // The directory did not exist. It is created before it is watched.
        while !conf_dir.exists() {
            tokio::task::yield_now().await;
        }
        fs::write(conf_dir.join(OURS), "{}").unwrap();
        fs::write(conf_dir.join("10-flannel.conflist"), "{}").unwrap();
        let first = conf_dir.join("00-cilium.conflist");
        fs::write(conf_dir.join("new"), "theirs").unwrap();
        fs::rename(conf_dir.join("new"), &first).unwrap();
        let why = state.wait_for(Result::is_err).await.unwrap().clone().unwrap_err();
        let dir = conf_dir.display().to_string();
        assert_eq!(
            why.replace(&dir, "/etc/cni/net.d"),
            "--cni-conf-dir /etc/cni/net.d: 00-cilium.conflist comes before 01-kube-ovn.conflist, and the container runtime \
             takes the first by name, so new pods get another network: take it away, with the network that put it there"
        );
        assert_eq!(fs::read(&first).unwrap(), b"theirs");
        fs::remove_file(&first).unwrap();
        state.wait_for(Result::is_ok).await.unwrap();
        // Some networks rename other networks' files.
        fs::rename(conf_dir.join(OURS), conf_dir.join("01-kube-ovn.conflist.cilium_bak")).unwrap();
        let why = state.wait_for(Result::is_err).await.unwrap().clone().unwrap_err();
        assert_eq!(
            why.replace(&dir, "/etc/cni/net.d"),
            "--cni-conf-dir /etc/cni/net.d: 01-kube-ovn.conflist was taken away, and new pods do not get our network: another \
             network does so that wants to be alone; take that away, and start this pod anew"
        );
        fs::write(conf_dir.join(OURS), "{}").unwrap();
        state.wait_for(Result::is_ok).await.unwrap();

        // A new directory with the same name is watched too.
        let old = conf_dir.with_extension("old");
        fs::rename(&conf_dir, &old).unwrap();
        while !conf_dir.exists() {
            tokio::task::yield_now().await;
        }
        state.wait_for(Result::is_err).await.unwrap();
        fs::copy(old.join(OURS), conf_dir.join(OURS)).unwrap();
        state.wait_for(Result::is_ok).await.unwrap();
        fs::write(&first, "{}").unwrap();
        state.wait_for(Result::is_err).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_was_there_before_is_known_from_the_start() {
        let (_dir, rivals) = folder();
        fs::create_dir(&rivals.conf_dir).unwrap();
        fs::write(rivals.conf_dir.join("00-bridge.conf"), "{}").unwrap();
        assert!(rivals.spawn().borrow().is_err());
    }
}
