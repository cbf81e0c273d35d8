//! Where a path of the host leads: to a file the app brought, to what gives the whole host away, or elsewhere.

use std::collections::BTreeSet;

/// The files of `compose.files`, as they lie on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The absolute path of the directory that holds them and nothing else: Compose's project directory. The Compose
    /// files and the variables lie elsewhere, or an app that mounts `.` could read and write them.
    pub directory: String,
    /// Their paths relative to it, e.g. `conf/nginx.conf`.
    pub paths: BTreeSet<String>,
}

/// Where a path of the host leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// To these files of the app: one, or a directory's.
    Files(BTreeSet<String>),
    /// To Docker's socket.
    DockerSocket,
    /// To the whole disk.
    Root,
    /// Elsewhere on the host.
    Elsewhere,
}

impl Files {
    /// Where a path leads. It is judged by its letters: what we write below the directory is no symbolic link.
    #[must_use]
    pub fn lead(&self, path: &str) -> Leads {
        let Some(steps) = steps(path) else { return Leads::Elsewhere };
        let place = steps.join("/");
        match place.as_str() {
            "" => return Leads::Root,
            "var/run/docker.sock" | "run/docker.sock" => return Leads::DockerSocket,
            _ => {}
        }
        let Some(inside) =
            self::steps(&self.directory).and_then(|base| steps.strip_prefix(&base[..]).map(<[_]>::to_vec))
        else {
            return Leads::Elsewhere;
        };
        let within = |file: &&String| self::steps(&format!("/{file}")).is_some_and(|file| file.starts_with(&inside));
        let files: BTreeSet<String> = self.paths.iter().filter(within).cloned().collect();
        if files.is_empty() { Leads::Elsewhere } else { Leads::Files(files) }
    }
}

/// The steps of an absolute path, without `.`, `..` and doubled slashes.
fn steps(path: &str) -> Option<Vec<&str>> {
    let mut steps = Vec::new();
    for step in path.strip_prefix('/')?.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            directory: "/opt/roadstead/apps/shop/files".into(),
            paths: ["conf/nginx.conf", "conf/tls/ca.pem", "motd"].map(String::from).into(),
        }
    }

    #[test]
    fn a_file_of_the_app_and_a_directory_of_such_are_its_own() {
        for (path, expected) in [
            ("/opt/roadstead/apps/shop/files/motd", &["motd"][..]),
            ("/opt/roadstead/apps/shop/files/conf/", &["conf/nginx.conf", "conf/tls/ca.pem"]),
            ("/opt/roadstead/apps/shop/files/x/../conf/./tls", &["conf/tls/ca.pem"]),
            ("/opt/roadstead/apps/shop/files", &["conf/nginx.conf", "conf/tls/ca.pem", "motd"]),
        ] {
            let expected = expected.iter().map(|file| (*file).to_owned()).collect();
            assert_eq!(files().lead(path), Leads::Files(expected), "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_a_file_of_the_app_is_elsewhere() {
        for path in [
            "/opt/roadstead/apps/shop/files/data",
            "/opt/roadstead/apps/shop/files/mot",
            "/opt/roadstead/apps/shop/files/motd/x",
            "/opt/roadstead/apps/shop/files/../env",
            "/opt/roadstead/apps/shop/files2/motd",
            "/opt/roadstead/apps/shop",
            "/etc/../opt",
            "motd",
            "",
        ] {
            assert_eq!(files().lead(path), Leads::Elsewhere, "{path}");
        }
        let none = Files { paths: BTreeSet::new(), ..files() };
        assert_eq!(none.lead("/opt/roadstead/apps/shop/files"), Leads::Elsewhere);
    }

    #[test]
    fn the_socket_and_the_whole_disk_are_told_by_every_spelling() {
        for path in ["/var/run/docker.sock", "/run/docker.sock", "/var/./run//docker.sock", "/etc/../run/docker.sock"] {
            assert_eq!(files().lead(path), Leads::DockerSocket, "{path}");
        }
        for path in ["/", "//", "/opt/..", "/..", "/./"] {
            assert_eq!(files().lead(path), Leads::Root, "{path}");
        }
    }
}
