//! The file of variables for `docker compose --env-file`: what the user's file may ask for by `${NAME}`, and what our
//! overlay hands on to services by name. It is the only file with values in it: it goes to the host through standard
//! input and is readable by its owner alone.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Why a name cannot be set; `None` if it can. `COMPOSE_…` would steer Compose itself, which reads these files for
/// them.
#[must_use]
pub fn objection(name: &str) -> Option<&'static str> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let rest = |byte: u8| letter(byte) || byte.is_ascii_digit();
    if !name.bytes().next().is_some_and(letter) || !name.bytes().all(rest) {
        return Some("a variable's name has letters, digits and `_`, and starts with no digit");
    }
    let steers = name.starts_with("COMPOSE_") && name != "COMPOSE_PROFILES";
    steers.then_some("of the variables that steer Compose only COMPOSE_PROFILES is for the app to choose")
}

/// The file. Every value is quoted such that it arrives as it is, whatever characters it has.
#[must_use]
pub fn file(values: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in values {
        let mut quoted = String::with_capacity(value.len() + 2);
        for character in value.chars() {
            match character {
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\\' | '"' | '$' => quoted.extend(['\\', character]),
                other => quoted.push(other),
            }
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}=\"{quoted}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_or_steer_compose_are_objected_to() {
        for name in ["A", "_a1", "DATABASE_URL", "COMPOSE_PROFILES", "COMPOSER"] {
            assert_eq!(objection(name), None, "{name}");
        }
        for name in ["", "1A", "A-B", "A B", "A=B", "Ä", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME"] {
            assert!(objection(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_value_is_one_line_in_which_nothing_is_expanded() {
        let values = [("A".to_owned(), "p\"a$s\\s\nend".to_owned())].into();
        assert_eq!(file(&values), "A=\"p\\\"a\\$s\\\\s\\nend\"\n");
    }
}
