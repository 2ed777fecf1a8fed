//! Generates the stubs of the contracts, in `protos/`, with each build that finds them changed.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protos");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut contracts = Vec::new();
    collect(&root, &mut contracts)?;
    contracts.sort();
    let descriptors = protox::compile(&contracts, [&root])?;
    let (secret, debugs) = of_secrets(&contracts)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("debugs.rs"), debugs)?;
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("contracts.rs")
        .skip_debug(secret)
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// The messages that hold a secret (`debug_redact`), and for each an implementation of Debug that shows none of it.
///
/// By the text of the contracts, which `buf format` wrote: the option is younger than the descriptors of prost.
fn of_secrets(contracts: &[PathBuf]) -> Result<(Vec<String>, String), Box<dyn Error>> {
    let mut messages = Vec::new();
    let mut debugs = String::new();
    for contract in contracts {
        let (mut package, mut message) = (String::new(), String::new());
        for line in fs::read_to_string(contract)?.lines() {
            if let Some(name) = line.strip_prefix("package ") {
                name.trim_end_matches(';').clone_into(&mut package);
            } else if let Some(name) = line.strip_prefix("message ") {
                name.trim_end_matches(" {").clone_into(&mut message);
            } else if line.contains("debug_redact = true") && !messages.contains(&format!("{package}.{message}")) {
                messages.push(format!("{package}.{message}"));
                let _ = writeln!(
                    debugs,
                    "impl std::fmt::Debug for crate::contracts::{}::{message} {{ \
                     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{ \
                     f.debug_struct(\"{message}\").finish_non_exhaustive() }} }}",
                    package.replace('.', "::")
                );
            }
        }
    }
    Ok((messages, debugs))
}
