//! The network without pods of ours: `docs/by-hand.md`, run as it stands, with the programs that have been built beside this
//! one. So a rebuild and `lab restart` is all it takes to try a change.

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;

use crate::layout::Node;
use crate::{process, rootfs};

pub mod page;
pub mod stand_in;
pub mod systemctl;
pub mod unit;
pub mod words;

use page::{Block, Place, Step};

/// The page's headings up to a network that runs.
const UP: [&str; 6] = ["Packages", "Programs", "Settings and units", "Accounts", "Kubeconfigs", "Start"];
/// The heading of how to see that it does.
pub const LOOK: &str = "See that it works";

/// The units that the page has, by what `lab restart` calls them, and where.
const UNITS: [(&str, &str, Place); 2] =
    [("controller", CONTROLLER, Place::Controllers), ("agent", AGENT, Place::Nodes)];
/// The controller's unit.
pub const CONTROLLER: &str = "kube-ovn-controller";
/// The agent's.
pub const AGENT: &str = "kube-ovn-cni";
/// The databases'.
pub const CENTRAL: &str = "kube-ovn-central";

/// Checks that a lab can be made so.
pub fn present(nodes: u8) -> Result<()> {
    ensure!(nodes >= 2, "--by-hand: the page has controllers on two nodes");
    stand_in::present()
}

/// Whether the lab that is up was made so.
pub fn is_up() -> bool {
    stand_in::folder().exists()
}

/// Does what the page says. A node gets its network a moment after this returns.
pub async fn up(nodes: &[Node]) -> Result<()> {
    stand_in::prepare()?;
    for title in UP {
        section(title, nodes).await?;
    }
    Ok(())
}

/// Runs the blocks under a heading; what they printed.
pub async fn section(title: &str, nodes: &[Node]) -> Result<String> {
    let mut said = String::new();
    for block in page::section(title)? {
        let run = run(&block, nodes).await;
        said += &run.with_context(|| format!("docs/by-hand.md, line {}", block.line))?;
    }
    Ok(said)
}

/// `lab restart`: puts what is built now on all nodes, and starts every `controller` or `agent` anew.
pub async fn restart(what: &str) -> Result<()> {
    let known = UNITS.iter().find(|(name, ..)| *name == what);
    let (_, unit, place) = known.with_context(|| format!("there is no {what} to restart; controller or agent"))?;
    ensure!(is_up(), "only a lab that was brought up by hand runs what is built; see make image");
    let nodes = Node::running();
    section("Programs", &nodes).await?;
    let words = ["restart", unit].map(str::to_owned);
    try_join_all(on(*place, &nodes)?.iter().map(|node| systemctl::run(*node, &words))).await.map(drop)
}

/// The nodes of a place.
fn on(place: Place, nodes: &[Node]) -> Result<&[Node]> {
    let some = |count| nodes.get(..count).context("too few nodes");
    match place {
        Place::Operator => Ok(&[]),
        Place::Central => some(1),
        Place::Controllers => some(2),
        Place::Nodes => Ok(nodes),
        Place::OneNode => bail!("the page leaves it open on which node"),
    }
}

async fn run(block: &Block, nodes: &[Node]) -> Result<String> {
    if block.place == Place::Operator {
        return process::run(stand_in::shell(&block.script)).await;
    }
    let steps = block.steps()?;
    let all = on(block.place, nodes)?.iter().map(|node| steps_on(*node, &steps));
    Ok(try_join_all(all).await?.concat())
}

async fn steps_on(node: Node, steps: &[Step]) -> Result<String> {
    let mut said = String::new();
    for step in steps {
        said += &match step {
            Step::Shell(script) => process::run(rootfs::on(node, "bash", &["-euo", "pipefail", "-c", script])?).await,
            Step::Own(program, words) if program == "apt-get" => stand_in::packages(words).map(|()| String::new()),
            Step::Own(_, words) => systemctl::run(node, words).await,
        }
        .with_context(|| node.name())?;
    }
    Ok(said)
}
