//! `docs/by-hand.md` as a program: its blocks of commands in order, by section, each with where it runs.
//!
//! A block is fenced as `sh` and begins with a comment that is one of the page's names of places. There is no other kind, so that
//! a slip is an error and not a block that nobody runs.

use anyhow::{Context, Result, bail};

/// The page.
pub const TEXT: &str = include_str!("../../../docs/by-hand.md");

/// Where a block runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the operator's machine, in the project's folder.
    Operator,
    /// On the node with the databases.
    Central,
    /// On the controllers' nodes.
    Controllers,
    /// On every node.
    Nodes,
    /// On a node of the operator's choice.
    OneNode,
}

/// A block of commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The heading that it stands under.
    pub section: String,
    /// Where.
    pub place: Place,
    /// The number of its first command's line.
    pub line: usize,
    /// The commands.
    pub script: String,
}

/// A piece of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Lines for a shell.
    Shell(String),
    /// A command that a node of the lab does not have: `systemctl` or `apt-get`, with its arguments.
    Own(String, Vec<String>),
}

/// What no node of the lab has.
const OWN: [&str; 2] = ["systemctl", "apt-get"];

/// All blocks of a page.
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
        if language != "sh" {
            bail!("line {number}: a block of {language:?}; only sh is run");
        }
        let (place, script) = inside.split_first().with_context(|| format!("line {number}: an empty block"))?;
        let place = match *place {
            "# operator" => Place::Operator,
            "# central" => Place::Central,
            "# controllers" => Place::Controllers,
            "# nodes" => Place::Nodes,
            "# one node" => Place::OneNode,
            other => bail!("line {number}: a block that begins with {other:?}, which is no place"),
        };
        blocks.push(Block { section: section.clone(), place, line: number + 2, script: script.join("\n") });
    }
    Ok(blocks)
}

/// The blocks under a heading; at least one.
pub fn section(title: &str) -> Result<Vec<Block>> {
    let mut blocks = blocks(TEXT)?;
    blocks.retain(|block| block.section == title);
    if blocks.is_empty() {
        bail!("docs/by-hand.md has no commands under {title:?}");
    }
    Ok(blocks)
}

impl Block {
    /// Its pieces in order. The commands that no node has stand on lines of their own, in words without quotes.
    pub fn steps(&self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let whole = self.script.replace("\\\n", " ");
        for line in whole.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next() {
                Some(own) if OWN.contains(&own.as_str()) => {
                    let words: Vec<_> = words.collect();
                    if let Some(word) =
                        words.iter().find(|word| word.contains(['$', '"', '\'', '|', '&', ';', '<', '>']))
                    {
                        bail!("by-hand.md, line {}: {own} with {word}, which only a shell understands", self.line);
                    }
                    steps.push(Step::Own(own, words));
                }
                _ => match steps.last_mut() {
                    Some(Step::Shell(script)) => *script = format!("{script}\n{line}"),
                    _ => steps.push(Step::Shell(line.to_owned())),
                },
            }
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_place_and_cut_where_the_lab_must_act_itself() {
        let text = "# Page\n## One\ntext\n```sh\n# nodes\ncd /x\nls\nsystemctl enable \\\n  --now a b\nls\n```\n## Two\n```sh\n# operator\nkubectl get nodes\n```\n";
        let found = blocks(text).unwrap();
        let shown: Vec<_> = found.iter().map(|b| (b.section.as_str(), b.place, b.line)).collect();
        assert_eq!(shown, [("One", Place::Nodes, 6), ("Two", Place::Operator, 15)]);
        let own = Step::Own("systemctl".into(), ["enable", "--now", "a", "b"].map(str::to_owned).into());
        assert_eq!(found[0].steps().unwrap(), [Step::Shell("cd /x\nls".into()), own, Step::Shell("ls".into())]);
    }

    #[test]
    fn a_slip_is_an_error() {
        let no_place = blocks("```sh\n# node\nls\n```\n").unwrap_err().to_string();
        assert_eq!(no_place, "line 1: a block that begins with \"# node\", which is no place");
        assert!(blocks("```bash\n# nodes\nls\n```\n").is_err());
        let shell = blocks("```sh\n# nodes\nsystemctl stop \"$unit\"\n```\n").unwrap()[0].steps().unwrap_err();
        assert!(shell.to_string().contains("line 3: systemctl with \"$unit\""), "{shell}");
    }

    #[test]
    fn every_block_of_the_page_can_be_run() {
        for block in blocks(TEXT).unwrap() {
            block.steps().unwrap();
        }
    }
}
