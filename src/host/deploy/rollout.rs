//! One app on several hosts: which of them may begin, one at a time, and when the app leaves a host that is no target
//! any more.
//!
//! A host is left last: the new ones serve, the names lead to them, and what resolvers remember of the old is over.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// How the app stands on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not there.
    Absent,
    /// Another revision than the wanted one serves, and nothing is on its way.
    Behind,
    /// The wanted revision is on its way, or on its way back.
    OnItsWay,
    /// The wanted revision serves.
    Current,
    /// The wanted revision failed for good, with this reason.
    Failed(String),
}

/// A host that is a target, or that has the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Whether the app should be there.
    pub target: bool,
    /// How the app stands there, as far as is known.
    pub standing: Standing,
    /// Whether it can be reached.
    pub reachable: bool,
    /// Whether it is known to be gone, so that there is nothing to take away.
    pub lost: bool,
    /// The app's named volumes there.
    pub volumes: BTreeSet<String>,
}

/// What is known besides the hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Since when the names lead to the targets and to nothing else; `None` while they do not.
    pub repointed: Option<Timestamp>,
    /// For how long others remember where a name led.
    pub ttl: std::time::Duration,
    /// `acceptDataLoss`: the host whose volumes may stay behind.
    pub accept_data_loss: Option<String>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// This host may begin, or go on with, the wanted revision. No other may.
    Deploy(String),
    /// This host cannot be reached, and the next one has to wait for it.
    Unreachable(String),
    /// The wanted revision failed on this host, and goes to no other.
    Stopped {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The app would leave volumes behind there.
    VolumesStayBehind {
        /// The host.
        host: String,
        /// The volumes.
        volumes: BTreeSet<String>,
    },
    /// There is no target: nothing is taken away for that.
    NoTarget,
    /// The names are to lead to the targets.
    Repoint,
    /// The app leaves no host before this.
    WaitOut(Timestamp),
    /// The app is taken away from this host.
    Remove(String),
    /// Nobody can take the app away from these hosts: that is said, and not waited for.
    Done {
        /// The hosts.
        leftovers: BTreeSet<String>,
    },
}

/// Chooses what happens next.
#[must_use]
pub fn rollout(hosts: &[Host], around: &Around, now: Timestamp) -> Turn {
    let mut targets: Vec<&Host> = hosts.iter().filter(|host| host.target).collect();
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    let mut leaving: Vec<&Host> =
        hosts.iter().filter(|host| !host.target && host.standing != Standing::Absent).collect();
    leaving.sort_by(|one, other| one.name.cmp(&other.name));
    if targets.is_empty() {
        return if leaving.is_empty() { Turn::Done { leftovers: BTreeSet::new() } } else { Turn::NoTarget };
    }
    let accepted = |host: &Host| around.accept_data_loss.as_ref() == Some(&host.name);
    let behind = leaving.iter().find(|host| !host.volumes.is_empty() && !host.lost && !accepted(host));
    if let Some(host) = behind {
        return Turn::VolumesStayBehind { host: host.name.clone(), volumes: host.volumes.clone() };
    }
    if let Some(turn) = deploy(&targets) {
        return turn;
    }
    if leaving.is_empty() {
        return Turn::Done { leftovers: BTreeSet::new() };
    }
    let Some(repointed) = around.repointed else { return Turn::Repoint };
    let end = repointed.checked_add(around.ttl).unwrap_or(Timestamp::MAX);
    if now < end {
        return Turn::WaitOut(end);
    }
    match leaving.iter().find(|host| host.reachable && !host.lost) {
        Some(host) => Turn::Remove(host.name.clone()),
        None => Turn::Done { leftovers: leaving.iter().map(|host| host.name.clone()).collect() },
    }
}

/// The one host that may deploy; `None` once all targets are current.
fn deploy(targets: &[&Host]) -> Option<Turn> {
    // What has begun comes to its end first, also beside a failure.
    let begun = targets.iter().find(|host| host.standing == Standing::OnItsWay);
    let failed = targets.iter().find_map(|host| match &host.standing {
        Standing::Failed(reason) => Some(Turn::Stopped { host: host.name.clone(), reason: reason.clone() }),
        _ => None,
    });
    let turn = |host: &Host| {
        if host.reachable { Turn::Deploy(host.name.clone()) } else { Turn::Unreachable(host.name.clone()) }
    };
    if let Some(host) = begun {
        return Some(turn(host));
    }
    failed.or_else(|| targets.iter().find(|host| host.standing != Standing::Current).map(|host| turn(host)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(name: &str, target: bool, standing: Standing) -> Host {
        Host { name: name.into(), target, standing, reachable: true, lost: false, volumes: BTreeSet::new() }
    }

    fn next(hosts: &[Host]) -> Turn {
        rollout(hosts, &Around::default(), Timestamp::UNIX_EPOCH)
    }

    /// Runs a rollout whose deploys end as `end` says, and names the hosts in the order they began.
    fn run(mut hosts: Vec<Host>, end: impl Fn(&str) -> Standing) -> (Vec<String>, Turn) {
        let mut begun = Vec::new();
        loop {
            match next(&hosts) {
                Turn::Deploy(name) => {
                    assert!(hosts.iter().filter(|host| host.standing == Standing::OnItsWay).count() <= 1);
                    let host = hosts.iter_mut().find(|host| host.name == name).unwrap();
                    if host.standing == Standing::OnItsWay {
                        host.standing = end(&name);
                    } else {
                        host.standing = Standing::OnItsWay;
                        begun.push(name);
                    }
                }
                turn => return (begun, turn),
            }
        }
    }

    fn three() -> Vec<Host> {
        ["c", "a", "b"].map(|name| host(name, true, Standing::Behind)).to_vec()
    }

    #[test]
    fn hosts_deploy_one_at_a_time_in_order() {
        let (begun, end) = run(three(), |_| Standing::Current);
        assert_eq!(begun, ["a", "b", "c"]);
        assert_eq!(end, Turn::Done { leftovers: BTreeSet::new() });
    }

    #[test]
    fn the_first_failure_stops_all_that_come_after_it() {
        let fails = |name: &str| if name == "b" { Standing::Failed("Unhealthy".into()) } else { Standing::Current };
        let (begun, end) = run(three(), fails);
        assert_eq!(begun, ["a", "b"]);
        assert_eq!(end, Turn::Stopped { host: "b".into(), reason: "Unhealthy".into() });
    }

    #[test]
    fn what_has_begun_comes_to_its_end_although_another_failed() {
        let failed = Standing::Failed("x".into());
        let hosts = [host("a", true, failed), host("b", true, Standing::OnItsWay), host("c", true, Standing::Absent)];
        assert_eq!(next(&hosts), Turn::Deploy("b".into()));
    }

    #[test]
    fn a_host_out_of_reach_is_waited_for() {
        let mut hosts = three();
        hosts[1].reachable = false;
        assert_eq!(next(&hosts), Turn::Unreachable("a".into()));
    }

    #[test]
    fn a_host_is_left_once_the_new_one_serves_the_names_lead_there_and_the_ttl_is_over() {
        let mut hosts = vec![host("new", true, Standing::Absent), host("old", false, Standing::Current)];
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut around = Around { ttl: Duration::from_secs(300), ..Around::default() };
        assert_eq!(rollout(&hosts, &around, at(0)), Turn::Deploy("new".into()));
        hosts[0].standing = Standing::Current;
        assert_eq!(rollout(&hosts, &around, at(10)), Turn::Repoint);
        around.repointed = Some(at(20));
        assert_eq!(rollout(&hosts, &around, at(319)), Turn::WaitOut(at(320)));
        assert_eq!(rollout(&hosts, &around, at(320)), Turn::Remove("old".into()));
        // One that is dead is said, and holds nothing up.
        hosts[1].reachable = false;
        assert_eq!(rollout(&hosts, &around, at(320)), Turn::Done { leftovers: ["old".into()].into() });
    }

    #[test]
    fn volumes_stay_behind_only_where_that_is_accepted_and_before_anything_is_deployed() {
        let mut hosts = vec![host("new", true, Standing::Absent), host("old", false, Standing::Current)];
        hosts[1].volumes = ["data".to_owned()].into();
        let refused = Turn::VolumesStayBehind { host: "old".into(), volumes: ["data".into()].into() };
        assert_eq!(next(&hosts), refused);
        let accept = |name: &str| Around { accept_data_loss: Some(name.into()), ..Around::default() };
        assert_eq!(rollout(&hosts, &accept("new"), Timestamp::UNIX_EPOCH), refused);
        assert_eq!(rollout(&hosts, &accept("old"), Timestamp::UNIX_EPOCH), Turn::Deploy("new".into()));
        // Nothing is left on a host that is gone.
        hosts[1].lost = true;
        assert_eq!(next(&hosts), Turn::Deploy("new".into()));
    }

    #[test]
    fn a_selector_that_selects_nothing_takes_nothing_away() {
        assert_eq!(next(&[host("old", false, Standing::Current)]), Turn::NoTarget);
        assert_eq!(next(&[]), Turn::Done { leftovers: BTreeSet::new() });
    }
}
