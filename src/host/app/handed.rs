//! What a script hands over: sections, each a line with its name and its size, and that many bytes. So a section may hold
//! anything, and one that is cut is no section.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::host::ssh::Error;

/// A function of the shell that hands over the file `$2` as the section `$1`, and one for what is in no file.
pub(super) const HAND: &str = r#"set -eu
umask 077
export LC_ALL=C
# In memory, so that a full disk keeps nobody from looking.
scratch=$(mktemp -d -p /run 2>/dev/null || mktemp -d)
trap 'rm -rf "$scratch"' EXIT
hand() {
  printf '%s %s\n' "$1" "$(wc -c <"$2")"
  cat "$2"
}
# Runs `docker … inspect` on what is named on standard input. Of that some may be gone by now: that alone is no failure.
inspect() {
  xargs -r docker "$@" >"$scratch/found" 2>"$scratch/said" ||
    if grep -qviE 'no such|not found|^$' "$scratch/said"; then
      cat "$scratch/said" >&2
      exit 1
    fi
  cat "$scratch/found"
}
# Hands over as the section `$1` what `docker compose config` with the options `$2` says, or what it complains of.
config() {
  if eval "$compose config $2" >"$scratch/config" 2>"$scratch/complaint"; then
    hand "$1" "$scratch/config"
  elif ! docker compose version >/dev/null; then
    exit 1
  fi
  hand complaint "$scratch/complaint"
}
"#;

/// The sections of what a script printed, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Handed(BTreeMap<String, String>);

impl Handed {
    /// Reads them. The last one has the name `end`.
    pub(super) fn read(mut output: &[u8]) -> Result<Self, Error> {
        let mut sections = BTreeMap::new();
        loop {
            let head = output.iter().position(|byte| *byte == b'\n').ok_or_else(|| garbled("its end is missing"))?;
            let line = String::from_utf8_lossy(&output[..head]);
            let (name, size) = line.split_once(' ').ok_or_else(|| garbled("a section has no size"))?;
            let size: usize = size.trim().parse().map_err(|_| garbled("the size of a section is no number"))?;
            let rest = &output[head + 1..];
            if name == "end" && size == 0 {
                return Ok(Self(sections));
            }
            let body = rest.get(..size).ok_or_else(|| garbled(&format!("the section `{name}` is cut")))?;
            sections.insert(name.to_owned(), String::from_utf8_lossy(body).into_owned());
            output = &rest[size..];
        }
    }

    /// A section, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The lines of a section; none if it is not there.
    pub(super) fn lines(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or_default().lines().filter(|line| !line.is_empty())
    }

    /// A section in which every line is JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, Error> {
        let read = |line| serde_json::from_str(line).map_err(|error| garbled(&format!("`{name}`: {error}")));
        self.lines(name).map(read).collect()
    }
}

fn garbled(why: &str) -> Error {
    Error::Invalid(format!("what the host says of the app cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_holds_whatever_it_holds() {
        let handed = Handed::read(b"a 4\nb 1\nb 6\n{\"x\":1c 0\nend 0\n");
        let handed = handed.unwrap();
        assert_eq!(
            (handed.get("a"), handed.get("b"), handed.get("c"), handed.get("d")),
            (Some("b 1\n"), Some("{\"x\":1"), Some(""), None)
        );
    }

    #[test]
    fn what_is_cut_is_not_read() {
        for output in ["", "a", "a 4\nb 1", "a 4\nb 1\n", "a 4\nb 1\nend", "a\nend 0\n", "a x\nend 0\n"] {
            assert!(Handed::read(output.as_bytes()).is_err(), "{output:?}");
        }
    }

    #[test]
    fn the_shell_hands_over_what_is_read() {
        let script = format!("{HAND}printf 'one\\ntwo' >\"$scratch/x\"; hand x \"$scratch/x\"; hand end /dev/null");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let handed = Handed::read(&output.stdout).unwrap();
        assert_eq!(handed.lines("x").collect::<Vec<_>>(), ["one", "two"]);
    }
}
