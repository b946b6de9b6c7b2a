//! What the log and the node's state say about the files.

use tokio::sync::watch;

use super::Rivals;
use super::found::Found;

/// What was already reported.
#[derive(Debug, Default)]
pub(super) struct Reported {
    files: Found,
    /// Whether our file existed at some time since the watch started.
    had_ours: bool,
}

impl Reported {
    /// Logs what is new in `found`, and publishes whether new pods get our network.
    pub(super) fn tell(&mut self, rivals: &Rivals, found: Found, sender: &watch::Sender<Result<(), String>>) {
        let (dir, ours) = (rivals.conf_dir.display(), &rivals.conf_name);
        self.had_ours |= found.ours;
        let before = std::mem::replace(&mut self.files, found);
        let found = &self.files;
        for file in news(&found.leading, &before.leading) {
            tracing::info!(file, "the container runtime comes to {dir}/{file} first, which hands pods on to us");
        }
        for file in news(&found.after, &before.after) {
            tracing::warn!("{}", rivals.later(file));
        }
        let now = rivals.verdict(found, self.had_ours);
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

impl Rivals {
    /// Returns the message for a file that comes after ours.
    fn later(&self, file: &str) -> String {
        let (dir, ours) = (self.conf_dir.display(), &self.conf_name);
        format!("--cni-conf-dir {dir}: another network's {file} is there; {ours} comes before it, so pods get ours")
    }

    /// Returns why new pods do not get our network. `had_ours`: whether our file was there at some time.
    pub(super) fn verdict(&self, found: &Found, had_ours: bool) -> Result<(), String> {
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
}

/// Returns the files that are new.
fn news<'a>(now: &'a [String], before: &[String]) -> impl Iterator<Item = &'a String> {
    now.iter().filter(|file| !before.contains(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::tests::OURS;

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
}
