//! The last lines an app wrote, fit to be shown: few, short, printable, and without its secrets.

/// How many lines are kept.
pub const LINES: usize = 20;
/// How many characters of a line are kept.
pub const WIDTH: usize = 200;
/// What stands where a secret stood.
const MASK: &str = "***";
/// A secret shorter than this is in every other word, and masking it would leave nothing to read.
const SHORTEST: usize = 4;

/// The last [`LINES`] lines of `text`, each cut to [`WIDTH`] characters, with `secrets` masked.
///
/// Masked before anything is cut, or the beginning of a secret could be left over. A secret of several lines is masked
/// line by line too, since a log shows it so.
#[must_use]
pub fn tail(text: &str, secrets: &[&str]) -> Vec<String> {
    let masked = mask(&printable(text), secrets);
    let lines: Vec<&str> = masked.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| cut(line, WIDTH)).collect()
}

/// `text` with `secrets` masked. Before it is cut, as [`tail`] says.
#[must_use]
pub fn mask(text: &str, secrets: &[&str]) -> String {
    let whole = secrets.iter().copied();
    let mut parts: Vec<&str> = whole.chain(secrets.iter().flat_map(|secret| secret.lines())).map(str::trim).collect();
    parts.retain(|part| part.len() >= SHORTEST);
    // A secret that contains another goes first, or its rest would stay.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.dedup();
    let mut masked = text.to_owned();
    for part in parts {
        if masked.contains(part) {
            masked = masked.replace(part, MASK);
        }
    }
    masked
}

/// `text` with at most `width` characters.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Without what a terminal obeys: escape sequences and control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                while characters.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {}
            }
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_cut() {
        let text = (0..50).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n\n");
        let lines = tail(&text, &[]);
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 30", "line 49"));
        let long = tail(&"é".repeat(5000), &[]);
        assert_eq!(long[0].chars().count(), WIDTH + 1);
        assert!(tail("", &[]).is_empty());
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secrets = ["hunter2", "hunter2-and-more", "-----KEY-----\nabcdef\n-----END-----\n", "ab", ""];
        let text = format!(
            "{}hunter2 at the cut\npassword=hunter2-and-more.\nabcdef\n\u{1b}[31mhun\u{1b}[0mter2\u{1b}[0m about",
            "x".repeat(WIDTH - 3)
        );
        let lines = tail(&text, &secrets);
        assert_eq!(lines[0], format!("{}***…", "x".repeat(WIDTH - 3)));
        assert_eq!(lines[1..], ["password=***.", "***", "*** about"]);
    }

    #[test]
    fn nothing_is_left_that_a_terminal_would_obey() {
        assert_eq!(tail("a\u{1b}[2Jb\u{7}\r\nc\td", &[]), ["ab", "c d"]);
    }
}
