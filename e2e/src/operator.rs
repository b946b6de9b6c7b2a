//! The operator of the lab's cluster: a user in the project's directory with admin rights in the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::layout::{cache, kubeconfig, state};

/// Returns the project's directory.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// Returns the commands of the first block of a page of the documentation that contains these words.
pub fn commands<'a>(page: &'a str, words: &str) -> Result<&'a str> {
    let mut blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains(words)).with_context(|| format!("no commands on the page contain {words:?}"))
}

/// Returns a shell that runs `script` in `folder`, with the lab's `kubectl` and `helm`. Programs in `folder`'s `bin`
/// take precedence.
pub fn shell(folder: &Path, script: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let programs =
        [folder.join("bin"), state("bin"), cache("bin")].map(|folder| folder.display().to_string()).join(":");
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .env("PATH", format!("{programs}:{path}"))
        .env("KUBECONFIG", kubeconfig());
    command
}
