//! What `docker compose config` said on standard error: why it took no file, or which variables it found empty.

use std::collections::BTreeSet;

use super::refusal::{Place, Refusal};

/// How much of what Compose said is passed on.
const LONGEST: usize = 512;

/// Why Compose refused. `directory` is where the files lie; it is left out of the text.
#[must_use]
pub fn refusal(stderr: &str, directory: &str) -> Refusal {
    let directory = format!("{}/", directory.trim_end_matches('/'));
    let said: Vec<&str> = stderr.lines().filter(|line| !is_log(line)).map(str::trim).collect();
    let said = said.join(" ").replace(&directory, "").trim().to_owned();
    if let Some((before, after)) = said.split_once("required variable ")
        && let Some((name, after)) = after.split_once(" is missing a value")
    {
        let place =
            before.split_once("interpolating ").map_or("compose", |(_, place)| place.trim_end_matches([':', ' ']));
        let note = after.strip_prefix(':').map(str::trim).filter(|note| !note.is_empty());
        let said = note.map(|note| format!(" ({})", cut(note))).unwrap_or_default();
        return Refusal::MissingVariable { place: place_of(place), name: name.to_owned(), said };
    }
    let said = if said.is_empty() { "it says nothing of why".to_owned() } else { said };
    Refusal::Unparsable { place: find_place(&said), said: cut(&said) }
}

/// The variables that have no value and were taken for empty, in alphabetical order: Compose tells them in any.
#[must_use]
pub fn empty_variables(stderr: &str) -> BTreeSet<String> {
    let told = |line: &str| {
        let (before, _) = line.split_once(" variable is not set.")?;
        Some(before.trim_end_matches(['"', '\\']).rsplit(['"', ' ']).next()?.to_owned())
    };
    stderr.lines().filter(|line| is_log(line)).filter_map(told).collect()
}

/// Whether a line is of Compose's log. Such lines bear the time, and none says why Compose failed.
fn is_log(line: &str) -> bool {
    line.starts_with("time=") || line.starts_with("WARN[")
}

/// `services.web.image` as service and key.
fn place_of(path: &str) -> Place {
    let of_service = path.strip_prefix("services.").and_then(|rest| rest.split_once('.'));
    match of_service {
        Some((service, key)) => Place::of(service, key),
        None => Place::at(path),
    }
}

/// The first thing in a text that names a place: `services.web.image` or `service "web"`.
fn find_place(said: &str) -> Place {
    for word in said.split_whitespace() {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ']');
        if word.starts_with("services.") {
            return place_of(word);
        }
    }
    let named = said.split_once("service \"").and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
    let bare = said.strip_prefix("service ").and_then(|rest| rest.split(' ').next());
    named.or(bare).map_or_else(|| Place::at("compose"), |name| Place::at(format!("services.{name}")))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_paths_and_warnings_are_left_out_so_that_the_text_is_the_same_each_time() {
        let stderr = "time=\"2026-11-21T23:32:10Z\" level=warning msg=\"The \\\"A\\\" variable is not set. \
                      Defaulting to a blank string.\"\nvalidating /opt/app/compose.yaml: services.web.ports.0 must be \
                      a string\n";
        assert_eq!(
            refusal(stderr, "/opt/app").to_string(),
            "service `web`, key `ports.0`: Compose refuses the file: validating compose.yaml: services.web.ports.0 \
             must be a string: mend it there"
        );
        assert_eq!(empty_variables(stderr), ["A".to_owned()].into());
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let refused = refusal(&"é".repeat(2000), "/opt/app").to_string();
        assert!(refused.chars().count() < 700 && refused.contains('…'), "{refused}");
        assert!(refusal("", "/opt/app").to_string().contains("it says nothing of why"));
    }
}
