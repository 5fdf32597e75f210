//! The documents that make promises are held to the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|cause| panic!("{name}: {cause}"))
}

/// Every Rust file of the workspace that is not a test of its own.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in
        ["src", "crates", "volume-driver", "backup-agent", "restore", "files", "import", "proto", "tests"]
    {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push((path, text));
        }
    }
}

/// The string literals in the bodies of `fn code(&self)`: the codes of failures.
fn failure_codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (path, text) in sources() {
        if path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        // Code below `mod tests {` at the end of a file makes up failures of its own.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for body in text.split("fn code(&self)").skip(1) {
            for literal in body_of(body).split('"').skip(1).step_by(2) {
                codes.insert(literal.to_owned());
            }
        }
    }
    codes
}

/// The text up to the brace that closes the first one opened.
fn body_of(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            // The declaration in the trait has no body.
            ';' if depth == 0 => return "",
            '{' => depth += 1,
            '}' if depth == 1 => return &text[..at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    text
}

#[test]
fn every_failure_code_is_explained_in_docs_errors() {
    let explained = document("docs/errors.md");
    let codes = failure_codes();
    assert!(codes.len() > 30, "the codes were not found: {codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !explained.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks {missing:?}");
}

#[test]
fn docs_errors_explains_no_code_that_is_gone() {
    let codes = failure_codes();
    let all: String = sources().into_iter().map(|(_, text)| text).collect();
    let gone: Vec<_> = document("docs/errors.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .filter(|code| !codes.contains(code) && !all.contains(&format!("\"{code}\"")))
        .collect();
    assert!(gone.is_empty(), "docs/errors.md explains {gone:?}, which nothing says");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let promises = document("docs/promises.md");
    let all: String = sources().into_iter().map(|(_, text)| text).collect();
    let named: Vec<_> = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.len() > 20 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(named.len() >= 8, "at least one test for each promise: {named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/promises.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_exit_code_is_explained() {
    let explained = document("docs/exit-codes.md");
    for code in [0, 1, 2, 3, 4, 5, 64, 70, 130, 200] {
        assert!(explained.contains(&format!("| {code} |")), "docs/exit-codes.md lacks {code}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .map(PathBuf::from)
        .into_iter()
        .chain(fs::read_dir(root().join("docs")).into_iter().flatten().flatten().map(|entry| entry.path()))
    {
        let path = root().join(&document);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !path.parent().is_some_and(|folder| folder.join(target).exists()) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
