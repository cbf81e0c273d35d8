//! The words of each action: what is run on the host, with what on standard input.
//!
//! What is in arguments is seen by every user of the host, so no secret is: variables are in a file, passwords of
//! registries come through standard input. No `up` here is a plain one: each names one service, leaves what that depends
//! on alone, and where the entry is made, leaves its other containers alone too. Two revisions may be there.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::app::Wanted;
use super::journal::seconds;
use super::plan::{Action, GRACE};
use crate::host::compose::overlay::{APP, REVISION, create};

/// Where an app lies on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The mark of the app.
    pub app: String,
    /// The name of its Compose project.
    pub project: String,
    /// The app's directory, absolute.
    pub directory: String,
    /// The container that Caddy runs in.
    pub proxy: String,
    /// The app's registries.
    pub registries: Vec<Registry>,
}

/// A registry and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its host, with the port if it has one.
    pub host: String,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({:?}, {:?})", self.host, self.user)
    }
}

/// A command.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The whole standard input.
    pub stdin: String,
    /// When it has to be over.
    pub limit: Duration,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?}, {} bytes of input, {:?})", self.words, self.stdin.len(), self.limit)
    }
}

/// What any short command may take.
const SHORT: Duration = Duration::from_secs(60);
/// What getting images may take.
const PULL: Duration = Duration::from_secs(1800);
/// What making containers may take.
const UP: Duration = Duration::from_secs(300);

/// Removes revisions, but those whose files a container of the project `$1` still mounts: a service that has not changed
/// since is as that revision made it. These go the next time they are not mounted.
const PRUNE: &str = r#"set -eu
project=$1
cd "$2" 2>/dev/null || exit 0
shift 2
for revision; do [ ! -d "$revision" ] || : >"$revision/pruned"; done
ids=$(docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$project")
mounts=$([ -z "$ids" ] || docker inspect --format '{{range .Mounts}}{{println .Source}}{{end}}' $ids)
for mark in */pruned; do
  [ -e "$mark" ] || continue
  case $mounts in *"/revisions/${mark%/pruned}/"*) ;; *) rm -rf -- "${mark%/pruned}" ;; esac
done"#;

impl Place {
    /// The directory of a revision: its Compose file, our overlay, its variables, and its files. It does not change: what
    /// goes back to the revision finds what it was.
    #[must_use]
    pub fn revision(&self, revision: &str) -> String {
        format!("{}/revisions/{revision}", self.directory)
    }

    /// The directory of the files that a revision mounts: it is Compose's project directory.
    #[must_use]
    pub fn files(&self, revision: &str) -> String {
        format!("{}/files", self.revision(revision))
    }

    /// A link to the files of the revision whose configuration is hashed: the same path for all of them.
    #[must_use]
    pub fn neutral(&self) -> String {
        format!("{}/files", self.directory)
    }

    /// The directory of the credentials for pulling. They go with the pull; those of one that failed with the next.
    fn credentials(&self) -> String {
        format!("{}/credentials", self.directory)
    }

    /// `docker compose` for a revision, as far as the subcommand. `before` are options of `docker` itself.
    #[must_use]
    pub fn compose(&self, revision: &str, before: &[&str]) -> Vec<String> {
        self.compose_of(revision, before, &self.files(revision), &["compose.yaml", "overlay.yaml"])
    }

    /// `docker compose` for these of a revision's files. It gets an empty environment: what the SSH user's has would
    /// come before the app's own variables, so that its `HOME` or `LANG` could not be what it says.
    #[must_use]
    pub fn compose_of(&self, revision: &str, before: &[&str], project: &str, files: &[&str]) -> Vec<String> {
        let directory = self.revision(revision);
        let mut words = strings(&["env", "-i", "docker"]);
        words.extend(strings(before));
        words.extend(strings(&["compose", "--project-name", &self.project, "--project-directory", project]));
        words.extend(strings(&["--env-file", &format!("{directory}/variables.env")]));
        for file in files {
            words.extend(strings(&["--file", &format!("{directory}/{file}")]));
        }
        words
    }

    fn with(&self, revision: &str, rest: &[&str], limit: Duration) -> Command {
        let mut words = self.compose(revision, &[]);
        words.extend(strings(rest));
        Command { words, stdin: String::new(), limit }
    }
}

/// The commands of an action, one after the other until one fails. None for the routing table, which is a file.
#[must_use]
pub fn of(action: &Action, place: &Place, wanted: Option<&Wanted>) -> Vec<Command> {
    match action {
        Action::Pull(revision) => pull(place, revision),
        Action::CreateNetwork(name) => {
            wanted.map_or_else(Vec::new, |wanted| vec![docker(create(name, wanted.subnet, &place.app), SHORT)])
        }
        Action::ConnectProxy(name) => vec![words(&["network", "connect", name, &place.proxy])],
        Action::DisconnectProxy(name) => vec![words(&["network", "disconnect", "--force", name, &place.proxy])],
        Action::RemoveNetwork(name) => vec![words(&["network", "rm", name])],
        Action::Service { revision, service } => {
            vec![place.with(revision, &["up", "--detach", "--no-deps", "--pull", "missing", "--", service], UP)]
        }
        Action::PreDeploy { revision, name } => wanted
            .and_then(|wanted| wanted.pre_deploy.as_ref())
            .map_or_else(Vec::new, |pre| vec![pre_deploy(place, revision, name, &pre.service, &pre.command)]),
        Action::Up { revision, service, scale, start } => {
            let scale = format!("{service}={scale}");
            let how = if *start { "--detach" } else { "--no-start" };
            let rest = ["up", how, "--no-deps", "--no-recreate", "--pull", "missing", "--scale", &scale, "--", service];
            vec![place.with(revision, &rest, UP)]
        }
        Action::Start(ids) => vec![listed(&["start"], ids, UP)],
        Action::Stop { ids, grace } => {
            vec![listed(&["stop", "-t", &grace.to_string()], ids, SHORT + seconds(*grace))]
        }
        // The volumes are those without a name: what has one stays.
        Action::Remove(ids) => vec![listed(&["rm", "--force", "--volumes"], ids, SHORT + seconds(GRACE))],
        Action::Logs(ids) => ids.iter().map(|id| words(&["logs", "--tail", "40", id])).collect(),
        Action::Prune { images, revisions } => prune(place, images, revisions),
        Action::RemoveDirectory => vec![remove(std::slice::from_ref(&place.directory))],
        Action::Route(_) => Vec::new(),
    }
}

fn pull(place: &Place, revision: &str) -> Vec<Command> {
    let credentials = place.credentials();
    let config = ["--config", credentials.as_str()];
    let login = |registry: &Registry| Command {
        words: strings(&["docker", config[0], config[1], "login"])
            .into_iter()
            .chain(strings(&["--username", &registry.user, "--password-stdin", &registry.host]))
            .collect(),
        stdin: registry.password.clone(),
        limit: SHORT,
    };
    let mut commands: Vec<Command> = place.registries.iter().map(login).collect();
    let mut words = place.compose(revision, &config);
    words.extend(strings(&["pull", "--ignore-buildable"]));
    commands.push(Command { words, stdin: String::new(), limit: PULL });
    if !place.registries.is_empty() {
        commands.push(remove(&[credentials]));
    }
    commands
}

/// Detached and not removed at its end: so its end is not lost with the connection.
fn pre_deploy(place: &Place, revision: &str, name: &str, service: &str, command: &[String]) -> Command {
    let labels = [format!("{APP}={}", place.app), format!("{REVISION}={revision}")];
    let rest = ["run", "--detach", "--no-deps", "-T", "--name", name, "--label", &labels[0], "--label", &labels[1]];
    let mut run = place.with(revision, &rest, UP);
    run.words.extend(["--".to_owned(), service.to_owned()]);
    run.words.extend(command.iter().cloned());
    run
}

fn prune(place: &Place, images: &BTreeSet<String>, revisions: &BTreeSet<String>) -> Vec<Command> {
    let mut commands = Vec::new();
    if !revisions.is_empty() {
        let words = strings(&["sh", "-c", PRUNE, "sh", &place.project, &format!("{}/revisions", place.directory)]);
        let words = words.into_iter().chain(revisions.iter().cloned()).collect();
        commands.push(Command { words, stdin: String::new(), limit: SHORT });
    }
    if !images.is_empty() {
        // Without force: what somebody uses stays.
        commands.push(listed(&["image", "rm"], images, SHORT));
    }
    commands
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn docker(rest: Vec<String>, limit: Duration) -> Command {
    let words = [vec!["docker".to_owned()], rest].concat();
    Command { words, stdin: String::new(), limit }
}

fn words(rest: &[&str]) -> Command {
    docker(strings(rest), SHORT)
}

fn listed<'a>(rest: &[&str], of: impl IntoIterator<Item = &'a String>, limit: Duration) -> Command {
    docker(strings(rest).into_iter().chain(of.into_iter().cloned()).collect(), limit)
}

fn remove(paths: &[String]) -> Command {
    let words = strings(&["rm", "-rf", "--"]).into_iter().chain(paths.iter().cloned()).collect();
    Command { words, stdin: String::new(), limit: SHORT }
}

#[cfg(test)]
mod tests {
    use super::super::model::{APP as MARK, wanted};
    use super::*;

    fn place() -> Place {
        let registry = Registry { host: "r.example".into(), user: "ci".into(), password: "hunter2".into() };
        let directory = "/opt/roadstead/apps/shop".to_owned();
        Place { app: MARK.into(), project: "shop".into(), directory, proxy: "caddy".into(), registries: vec![registry] }
    }

    fn lines(action: &Action) -> Vec<String> {
        of(action, &place(), Some(&wanted("r2"))).into_iter().map(|command| command.words.join(" ")).collect()
    }

    const COMPOSE: &str = "env -i docker compose --project-name shop \
         --project-directory /opt/roadstead/apps/shop/revisions/r2/files \
         --env-file /opt/roadstead/apps/shop/revisions/r2/variables.env \
         --file /opt/roadstead/apps/shop/revisions/r2/compose.yaml \
         --file /opt/roadstead/apps/shop/revisions/r2/overlay.yaml";

    fn all() -> Vec<Action> {
        let (revision, service) = ("r2".to_owned(), "web".to_owned());
        let ids = || vec!["aa".to_owned(), "bb".to_owned()];
        let up = |start| Action::Up { revision: revision.clone(), service: service.clone(), scale: 2, start };
        vec![
            Action::Pull(revision.clone()),
            Action::CreateNetwork("net".into()),
            Action::ConnectProxy("net".into()),
            Action::DisconnectProxy("net".into()),
            Action::RemoveNetwork("net".into()),
            Action::Service { revision: revision.clone(), service: "db".into() },
            Action::PreDeploy { revision: revision.clone(), name: "once".into() },
            up(true),
            up(false),
            Action::Start(ids()),
            Action::Stop { ids: ids(), grace: 30 },
            Action::Remove(ids()),
            Action::Logs(ids()),
            Action::Prune { images: ["sha256:1".to_owned()].into(), revisions: ["r0".to_owned()].into() },
            Action::RemoveDirectory,
            Action::Route(std::collections::BTreeMap::new()),
        ]
    }

    #[test]
    fn the_new_revision_is_made_beside_the_old_one_and_nothing_else_is_touched() {
        let up = |start| Action::Up { revision: "r2".into(), service: "web".into(), scale: 2, start };
        let rest = "--no-deps --no-recreate --pull missing --scale web=2 -- web";
        assert_eq!(lines(&up(true)), [format!("{COMPOSE} up --detach {rest}")]);
        assert_eq!(lines(&up(false)), [format!("{COMPOSE} up --no-start {rest}")]);
    }

    #[test]
    fn no_up_is_a_plain_one() {
        for line in all().iter().flat_map(lines).filter(|line| line.contains(" up ")) {
            assert!(line.contains("--no-deps") && line.contains(" -- "), "{line}");
            assert!(!line.ends_with(" web") || (line.contains("--no-recreate") && line.contains("--scale")), "{line}");
            assert!(!line.contains("--remove-orphans"), "{line}");
        }
    }

    #[test]
    fn no_secret_is_an_argument_and_none_is_shown() {
        let commands: Vec<Command> =
            all().iter().flat_map(|action| of(action, &place(), Some(&wanted("r2")))).collect();
        assert!(commands.iter().all(|command| !command.words.concat().contains("hunter2")));
        assert!(!format!("{commands:?} {:?}", place()).contains("hunter2"));
        let given: Vec<&str> =
            commands.iter().map(|command| command.stdin.as_str()).filter(|s| !s.is_empty()).collect();
        assert_eq!(given, ["hunter2"]);
    }

    #[test]
    fn credentials_go_with_the_pull_they_were_for() {
        let lines = lines(&Action::Pull("r2".into()));
        let credentials = "/opt/roadstead/apps/shop/credentials";
        let login = format!("docker --config {credentials} login --username ci --password-stdin r.example");
        assert_eq!((lines.len(), &lines[0]), (3, &login));
        assert!(
            lines[1].starts_with(&format!("env -i docker --config {credentials} compose "))
                && lines[1].contains(" pull ")
        );
        assert_eq!(lines[2], format!("rm -rf -- {credentials}"));
    }

    #[test]
    fn pre_deploy_leaves_a_container_that_tells_how_it_ended() {
        let line = &lines(&Action::PreDeploy { revision: "r2".into(), name: "once".into() })[0];
        let rest = format!(
            " run --detach --no-deps -T --name once --label roadstead.app={MARK} --label roadstead.revision=r2 -- web \
             ./migrate --all"
        );
        assert_eq!(line, &format!("{COMPOSE}{rest}"));
        assert!(!line.contains("--rm"));
    }

    #[test]
    fn containers_and_images_are_named_by_their_ids() {
        let ids = || vec!["aa".to_owned(), "bb".to_owned()];
        assert_eq!(lines(&Action::Stop { ids: ids(), grace: 30 }), ["docker stop -t 30 aa bb"]);
        assert_eq!(lines(&Action::Remove(ids())), ["docker rm --force --volumes aa bb"]);
        assert_eq!(lines(&Action::Start(ids())), ["docker start aa bb"]);
        assert_eq!(lines(&Action::Logs(ids())), ["docker logs --tail 40 aa", "docker logs --tail 40 bb"]);
        let prune = Action::Prune { images: ["sha256:1".to_owned()].into(), revisions: ["r0".to_owned()].into() };
        let lines = lines(&prune);
        assert!(lines[0].ends_with("sh shop /opt/roadstead/apps/shop/revisions r0"), "{}", lines[0]);
        assert_eq!(lines[1], "docker image rm sha256:1");
    }
}
