//! Parses `docs/by-hand.md` and pages like it: their command blocks in order, by section, each with its place.
//!
//! A block is fenced as `sh`, and its first line is a comment with the name of a place. Blocks of `yaml` and `text` are not
//! run. Any other block is an error, so that a typo cannot hide a block.

use anyhow::{Context, Result, bail};

/// The page.
pub const TEXT: &str = include_str!("../../../docs/by-hand.md");

/// Where to run a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The operator's machine, in the project's directory.
    Operator,
    /// The node with the databases.
    Central,
    /// The nodes of the controllers.
    Controllers,
    /// All nodes.
    Nodes,
    /// A node of the operator's choice.
    OneNode,
    /// A machine that is no node.
    Host,
}

/// A block of commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The heading above the block.
    pub section: String,
    /// Where to run the block.
    pub place: Place,
    /// The line number of the first command.
    pub line: usize,
    /// The commands.
    pub script: String,
}

/// Returns all blocks of a page.
pub fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut section = String::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        }
        let Some(language) = line.strip_prefix("```") else { continue };
        let inside: Vec<_> = lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```").collect();
        match language {
            "sh" => {}
            "yaml" | "text" => continue,
            _ => bail!("line {number}: a block of {language:?}; only sh is run"),
        }
        let (place, script) = inside.split_first().with_context(|| format!("line {number}: an empty block"))?;
        let place = match *place {
            "# operator" => Place::Operator,
            "# central" => Place::Central,
            "# controllers" => Place::Controllers,
            "# nodes" => Place::Nodes,
            "# one node" => Place::OneNode,
            "# host" => Place::Host,
            other => bail!("line {number}: a block that begins with {other:?}, which is no place"),
        };
        blocks.push(Block { section: section.clone(), place, line: number + 2, script: script.join("\n") });
    }
    Ok(blocks)
}

/// Returns the blocks of a page under a heading. Fails if there is none.
pub fn section(text: &str, title: &str) -> Result<Vec<Block>> {
    let mut blocks = blocks(text)?;
    blocks.retain(|block| block.section == title);
    if blocks.is_empty() {
        bail!("the page has no commands under {title:?}");
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_place() {
        let text =
            "# Page\n## One\ntext\n```sh\n# nodes\ncd /x\nls\n```\n## Two\n```sh\n# operator\nkubectl get nodes\n```\n";
        let found = blocks(text).unwrap();
        let shown: Vec<_> = found.iter().map(|b| (b.section.as_str(), b.place, b.line)).collect();
        assert_eq!(shown, [("One", Place::Nodes, 6), ("Two", Place::Operator, 12)]);
        assert_eq!(found[0].script, "cd /x\nls");
    }

    #[test]
    fn a_slip_is_an_error() {
        let no_place = blocks("```sh\n# node\nls\n```\n").unwrap_err().to_string();
        assert_eq!(no_place, "line 1: a block that begins with \"# node\", which is no place");
        assert!(blocks("```bash\n# nodes\nls\n```\n").is_err());
    }

    #[test]
    fn every_block_of_the_page_has_a_place() {
        assert!(blocks(TEXT).unwrap().len() > 10);
    }
}
