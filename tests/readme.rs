//! What the README says of names that live elsewhere: files, reasons, series, annotations and `make` targets.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All source files, one after the other.
fn source() -> String {
    fn gather(dir: &Path, into: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, into);
            } else {
                writeln!(into, "{}", std::fs::read_to_string(&path).unwrap()).unwrap();
            }
        }
    }
    let mut text = String::new();
    gather(&Path::new(ROOT).join("src"), &mut text);
    text
}

/// What stands in backticks in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_reason_and_event_it_explains_is_one_the_operator_gives() {
    let (readme, source) = (read("README.md"), source());
    let section = readme.split("### Troubleshooting").nth(1).unwrap().split("\n### ").next().unwrap();
    let first_columns =
        section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split(" | ").next());
    let events = section.split("Events say").nth(1).unwrap();
    let mut seen = 0;
    for cell in first_columns.map(|cell| format!("`{cell}")).chain([events.to_owned()]) {
        for word in quoted(&cell).filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase())) {
            seen += 1;
            assert!(source.contains(&format!("\"{word}\"")), "nothing gives the reason {word}");
        }
    }
    assert!(seen > 80, "only {seen} reasons were found in the table");
}

#[test]
fn every_series_and_annotation_it_names_is_one_the_operator_knows() {
    let (readme, source) = (read("README.md"), source());
    for name in quoted(&readme).filter_map(|word| word.strip_prefix("roadstead_")) {
        let name = name.split('{').next().unwrap();
        let registered = name.trim_end_matches("_total").trim_end_matches("_seconds");
        assert!(source.contains(&format!("\"{registered}\"")), "no series roadstead_{name}");
    }
    for name in ["paused", "replace", "adopt", "abandon", "approve-deletions"] {
        assert!(readme.contains(&format!("`{name}=")), "the annotation {name} is not explained");
        let used = [format!("\"{name}\""), format!("roadstead.dev/{name}\"")];
        assert!(used.iter().any(|used| source.contains(used)), "the operator does not know the annotation {name}");
    }
}

#[test]
fn every_file_it_links_to_is_there_and_every_make_target_exists() {
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let missing = !link.starts_with("http") && !Path::new(ROOT).join(link).exists();
            assert!(!missing, "{page} links to {link}, which is not there");
        }
        let makefile = read("Makefile");
        let spans = quoted(&text).chain(text.lines());
        for target in
            spans.filter_map(|line| line.strip_prefix("make ")).filter_map(|rest| rest.split_whitespace().next())
        {
            let there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(there || target == "alone", "{page} speaks of `make {target}`");
        }
    }
}
