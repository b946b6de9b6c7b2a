//! The network without pods: runs the commands of `docs/by-hand.md` with the programs built next to this one. To try a
//! change, rebuild and run `lab restart`.

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;

use crate::layout::Node;
use crate::{process, rootfs, systemd};

pub mod page;
pub mod stand_in;

use page::{Block, Place};

/// The page's headings for a running network.
const UP: [&str; 6] = ["Packages", "Programs", "Settings and units", "Accounts", "Kubeconfigs", "Start"];
/// The heading of the check that it works.
pub const LOOK: &str = "See that it works";

/// The restartable units: the name for `lab restart`, the unit, and its nodes.
const UNITS: [(&str, &str, Place); 2] =
    [("controller", CONTROLLER, Place::Controllers), ("agent", AGENT, Place::Nodes)];
/// The unit of the controller.
pub const CONTROLLER: &str = "kube-ovn-controller";
/// The unit of the agent.
pub const AGENT: &str = "kube-ovn-cni";
/// The unit of Open vSwitch and ovn-controller.
pub const OVS: &str = "ovs-ovn";
/// The unit of the databases.
pub const CENTRAL: &str = "kube-ovn-central";

/// Checks the prerequisites of a lab by hand.
pub fn present(nodes: u8) -> Result<()> {
    ensure!(nodes >= 2, "--by-hand: the page has controllers on two nodes");
    stand_in::present()
}

/// Returns true if the running lab was made by hand.
pub fn is_up() -> bool {
    stand_in::folder().exists()
}

/// Returns the name of the process of a unit on a node.
pub fn name(node: Node, unit: &str) -> String {
    format!("{unit}-{}", node.name())
}

/// Runs the commands of the page. The nodes have a network shortly after this returns.
pub async fn up(nodes: &[Node]) -> Result<()> {
    stand_in::prepare(&stand_in::folder())?;
    try_join_all(nodes.iter().map(|node| async {
        systemd::boot(*node).await?;
        stand_in::equip(*node)
    }))
    .await?;
    for title in UP {
        section(title, nodes).await?;
    }
    Ok(())
}

/// Runs the blocks under a heading. Returns their output.
pub async fn section(title: &str, nodes: &[Node]) -> Result<String> {
    let mut said = String::new();
    for block in page::section(page::TEXT, title)? {
        let run = run(&block, nodes).await;
        said += &run.with_context(|| format!("docs/by-hand.md, line {}", block.line))?;
    }
    Ok(said)
}

/// Runs the blocks under a heading on a node of choice.
pub async fn section_on(title: &str, node: Node) -> Result<String> {
    let mut said = String::new();
    for block in page::section(page::TEXT, title)? {
        ensure!(block.place == Place::OneNode, "line {}: it is said where this runs", block.line);
        said += &run_on(node, &block.script).await?;
    }
    Ok(said)
}

/// `lab restart`: installs the current build on all nodes and restarts every `controller` or `agent`.
pub async fn restart(what: &str) -> Result<()> {
    let known = UNITS.iter().find(|(name, ..)| *name == what);
    let (_, unit, place) = known.with_context(|| format!("there is no {what} to restart; controller or agent"))?;
    ensure!(is_up(), "only a lab made by hand (lab up --by-hand) runs what e2e/build has built");
    let nodes = Node::running();
    section("Programs", &nodes).await?;
    let words = ["restart", *unit];
    let all = on(*place, &nodes)?.iter().map(|node| systemd::systemctl(*node, &words));
    try_join_all(all).await.map(drop)
}

/// Returns the nodes of a place.
fn on(place: Place, nodes: &[Node]) -> Result<&[Node]> {
    let some = |count| nodes.get(..count).context("too few nodes");
    match place {
        Place::Operator => Ok(&[]),
        Place::Central => some(1),
        Place::Controllers => some(2),
        Place::Nodes => Ok(nodes),
        Place::OneNode | Place::Host => bail!("the page leaves it open on which node"),
    }
}

async fn run(block: &Block, nodes: &[Node]) -> Result<String> {
    if block.place == Place::Operator {
        return process::run(stand_in::shell(&stand_in::folder(), &block.script)).await;
    }
    let all = on(block.place, nodes)?.iter().map(|node| run_on(*node, &block.script));
    Ok(try_join_all(all).await?.concat())
}

async fn run_on(node: Node, script: &str) -> Result<String> {
    process::run(rootfs::on(node, "bash", &["-euo", "pipefail", "-c", script])?).await.with_context(|| node.name())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd");

    /// Returns the name and the text of every unit.
    fn all() -> BTreeMap<String, String> {
        let paths = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
        let units = paths.filter(|path| path.extension().is_some_and(|extension| extension == "service"));
        let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        units.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
    }

    #[test]
    fn what_a_unit_names_is_a_setting() {
        let settings = fs::read_to_string(format!("{FOLDER}/kube-ovn.default")).unwrap();
        let is_one = |word: &str| {
            let assigned =
                |line: &str| line.trim_start_matches('#').split_once('=').is_some_and(|(name, _)| name == word);
            settings.lines().any(assigned)
        };
        let units = all();
        assert_eq!(units.len(), 5);
        for (name, text) in units {
            // An unknown setting would expand to an empty value.
            for word in text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word) {
                assert!(is_one(word), "{name} names {word}, which is no setting");
            }
        }
    }

    #[test]
    fn the_page_has_every_setting_as_it_is() {
        let text = fs::read_to_string(format!("{FOLDER}/kube-ovn.default")).unwrap();
        let settings = text.lines().map(|line| line.trim_start_matches('#')).filter_map(|line| line.split_once('='));
        let settings: Vec<_> =
            settings.filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')).collect();
        let rows = page::TEXT.lines().skip_while(|line| *line != "| Setting | As it is | Meaning |").skip(2);
        let rows =
            rows.take_while(|line| line.starts_with('|')).map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let said: Vec<_> = rows.map(|row| (row[1].trim_matches('`'), row[2])).collect();
        assert_eq!(
            said.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            settings.iter().map(|s| s.0).collect::<Vec<_>>()
        );
        for ((name, value), (_, said)) in settings.iter().zip(said) {
            let right = if value.is_empty() { !said.starts_with('`') } else { said == format!("`{value}`") };
            assert!(right, "{name} is {value:?}, and the page says {said}");
        }
    }

    /// Returns the output of `systemd-analyze verify` for a unit, on a machine with our programs.
    fn verified(name: &str, text: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &[u8], mode| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        for program in ["ovn-central", "ovs-ovn", "kube-ovn-controller", "kube-ovn-cni"] {
            put(&format!("usr/bin/{program}"), b"", 0o755);
        }
        for target in fs::read_dir("/usr/lib/systemd/system").unwrap().map(|entry| entry.unwrap().path()) {
            if target.extension().is_some_and(|extension| extension == "target") {
                let name = target.file_name().unwrap().to_str().unwrap();
                put(&format!("usr/lib/systemd/system/{name}"), &fs::read(&target).unwrap(), 0o644);
            }
        }
        for (other, text) in all() {
            put(&format!("etc/systemd/system/{other}.service"), text.as_bytes(), 0o644);
        }
        put(&format!("etc/systemd/system/{name}.service"), text.as_bytes(), 0o644);
        let root: &Path = root.path();
        let mut analyze = std::process::Command::new("systemd-analyze");
        analyze.args(["verify", "--man=no", "--root"]).arg(root).arg(format!("{name}.service"));
        let output = analyze.output().expect("systemd-analyze; e2e/setup check installs it");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    #[test]
    fn systemd_has_nothing_to_say_of_any_unit() {
        for (name, text) in all() {
            assert_eq!(verified(&name, &text), "", "{name}");
            let slip = verified(&name, &text.replace("Restart=always", "Restart=alwys"));
            assert!(slip.contains("Restart") || slip.contains("restart"), "{name}: a slip goes unseen: {slip:?}");
        }
    }
}
