//! Prints the CRDs, or with `--write DIR` writes one file for each. `cargo run -p api --example crds`.

#![allow(clippy::unwrap_used)] // a developer's tool: stops where it cannot go on

use std::{env, fs, path::Path};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let write = matches!(args.first(), Some(first) if first == "--write");
    for (file, crd) in api::crds() {
        let yaml = serde_yaml_ng::to_string(&crd).unwrap();
        match args.get(1) {
            Some(dir) if write => fs::write(Path::new(dir).join(file), yaml).unwrap(),
            _ => println!("---\n{yaml}"),
        }
    }
}
