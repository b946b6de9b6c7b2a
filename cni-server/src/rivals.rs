//! Detects CNI configurations of other networks. The container runtime uses the first file by name in its configuration
//! directory for new pods.
//!
//! The agent watches the directory (inotify(7)) and never changes other networks' files. A file that comes before ours
//! is an error as long as it exists, unless it delegates to our plugin, as Multus does. A file that comes after ours is
//! logged once. If our file is removed, the agent reports this as an error. It does not write the file again, because
//! another network could keep removing it.

mod found;
mod report;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kit::watched::Watched;
use tokio::sync::watch;

use found::Found;
use report::Reported;

/// The interval at which the directory is read if it cannot be watched.
const RETRY: Duration = Duration::from_secs(30);

/// The location of our conflist.
#[derive(Clone, Debug)]
pub struct Rivals {
    /// The runtime's configuration directory.
    pub conf_dir: PathBuf,
    /// The name of our file.
    pub conf_name: String,
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
        if let Ok(found) = Found::look(&self) {
            reported.tell(&self, found, &sender);
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
            let watched = Watched::of(&self.conf_dir);
            // Read the directory after the watch has started, so that no change is missed. Also read it if the watch
            // failed.
            reported.tell(self, Found::look(self).map_err(failed("read it"))?, sender);
            let mut watched = watched.map_err(failed("watch it"))?;
            // Ends when the directory is deleted or renamed.
            while watched.changed().await.map_err(failed("watch it"))? {
                reported.tell(self, Found::look(self).map_err(failed("read it"))?, sender);
            }
        }
    }

    /// Looks at the directory once. Our file must be there.
    pub fn state(&self) -> Result<(), String> {
        let found =
            Found::look(self).map_err(|error| format!("--cni-conf-dir {}: {error}", self.conf_dir.display()))?;
        self.verdict(&found, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    pub(super) const OURS: &str = "01-kube-ovn.conflist";

    pub(super) fn folder() -> (tempfile::TempDir, Rivals) {
        let dir = tempfile::tempdir().unwrap();
        let rivals = Rivals { conf_dir: dir.path().join("net.d"), conf_name: OURS.to_owned() };
        (dir, rivals)
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
