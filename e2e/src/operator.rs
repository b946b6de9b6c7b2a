//! The operator of the lab's cluster: whoever sits at a terminal in the project's folder and may do everything in the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::layout::{cache, kubeconfig, state};

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// A shell of the operator's for `script`, in `folder`, with the lab's `kubectl` and `helm`. What is in `bin` of that folder comes
/// first.
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
