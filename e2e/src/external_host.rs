//! A machine that is no node, and joins the pod network with the commands of `docs/external-hosts.md`.
//!
//! It takes the place of the lab's third node: the same namespaces, links and Debian with systemd, without a kubelet and
//! a container runtime.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::by_hand::{page, stand_in};
use crate::cluster::Place;
use crate::layout::{Node, state};
use crate::{install, node, process, rootfs, systemd};

/// Its name on the page.
pub const NAME: &str = "lb1";
/// Its place in the lab.
pub const MACHINE: Node = Node::THREE;

/// The page.
const PAGE: &str = include_str!("../../docs/external-hosts.md");

/// The directory in which the operator runs the commands of the page.
fn folder() -> PathBuf {
    state("external-host")
}

/// Boots the machine.
pub async fn boot() -> Result<()> {
    ensure!(MACHINE.pid().is_none(), "{} is a node of this lab; run this on two nodes", MACHINE.name());
    if folder().exists() {
        fs::remove_dir_all(folder())?;
    }
    stand_in::prepare(&folder())?;
    node::up(MACHINE).await?;
    install::address(MACHINE).await?;
    systemd::boot(MACHINE).await?;
    stand_in::equip(MACHINE)
}

/// Switches the machine off. Its disk stays.
pub async fn off() -> Result<()> {
    if MACHINE.pid().is_some() { node::lose(MACHINE).await } else { Ok(()) }
}

/// Runs the blocks under a heading of the page. Returns their output.
pub async fn section(title: &str) -> Result<String> {
    let mut said = String::new();
    for block in page::section(PAGE, title)? {
        let command = match block.place {
            page::Place::Operator => stand_in::shell(&folder(), &block.script),
            page::Place::Host => rootfs::on(MACHINE, "bash", &["-euo", "pipefail", "-c", &block.script])?,
            other => anyhow::bail!("line {}: {other:?} is no place of this page", block.line),
        };
        said += &process::run(command).await.with_context(|| format!("docs/external-hosts.md, line {}", block.line))?;
    }
    Ok(said)
}

/// Returns the manifest of the page.
pub fn manifest() -> Result<Value> {
    let yaml = PAGE.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    serde_yaml_ng::from_str(yaml.context("the page has a manifest")?).context("the manifest of the page")
}

/// Returns the machine, for commands.
pub fn place() -> Place {
    Place::Node(MACHINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_the_page_has_a_place() {
        assert!(page::blocks(PAGE).unwrap().len() > 6);
        assert_eq!(manifest().unwrap()["metadata"]["name"], NAME);
    }
}
