use super::*;
use crate::api::server_group::{MemberHealth as H, ServerGroup, ServerGroupSpec};
use crate::probe::Check;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// One group, told of this and that as time goes by.
struct Life {
    roster: Roster,
    reports: Reports,
    members: Vec<MemberStatus>,
    verdicts: HashMap<String, Verdict>,
    heard: HashMap<String, Heard>,
    listening_since: Timestamp,
}

impl Life {
    /// Listed servers that are probed; reports count for 90 s and are remembered for an hour.
    fn of(ids: &[&str]) -> Self {
        let entry = |id: &&str| Entry {
            address: ServerAddress::parse(id).unwrap(),
            origin: Origin::Listed,
            node: None,
            app: None,
            priority: 100,
            weight: 1,
            disabled: false,
            ip: None,
            probing: Probing::Check(Check::Tcp { address: (*id).to_owned(), port: 80 }),
        };
        Self {
            roster: Roster { members: ids.iter().map(entry).collect(), cut: false },
            reports: Reports { enabled: true, ttl: Duration::from_secs(90), forget_after: Duration::from_secs(3600) },
            members: Vec::new(),
            verdicts: HashMap::new(),
            heard: HashMap::new(),
            listening_since: at(0),
        }
    }

    fn unprobed(mut self) -> Self {
        for entry in &mut self.roster.members {
            entry.probing = Probing::Off;
        }
        self
    }

    fn says(&mut self, id: &str, healthy: bool, second: i64) {
        let health = if healthy { Health::Healthy } else { Health::Unhealthy };
        let message = if healthy { "" } else { "nobody listens" }.to_owned();
        let reason = if healthy { "Answered" } else { "ConnectionRefused" };
        self.verdicts.insert(id.to_owned(), Verdict { health, reason, message, since: at(second) });
    }

    fn reports(&mut self, id: &str, healthy: bool, second: i64) {
        self.heard.insert(id.to_owned(), Heard { healthy, at: at(second) });
    }

    /// The health of each, and when to look again; the status is written.
    fn look(&mut self, second: i64) -> (Vec<(String, H, String)>, Option<Timestamp>) {
        let merged = merge(&Known {
            roster: &self.roster,
            reports: &self.reports,
            before: &self.members,
            verdict: &|id| self.verdicts.get(id).cloned(),
            heard: &self.heard,
            listening_since: self.listening_since,
            now: at(second),
        });
        self.members = merged.members;
        let said = self.members.iter().map(|m| (m.id.clone(), m.health, m.reason.clone())).collect();
        (said, merged.next)
    }

    fn health(&mut self, second: i64) -> Vec<H> {
        self.look(second).0.into_iter().map(|(_, health, _)| health).collect()
    }

    /// The process ends and another takes over: what it heard and its verdicts are lost, the status is not.
    fn restart(&mut self, second: i64) {
        (self.heard, self.verdicts) = (HashMap::new(), HashMap::new());
        self.listening_since = at(second);
    }
}

#[test]
fn a_server_is_healthy_if_every_source_it_has_says_so() {
    let mut life = Life::of(&[A]);
    let one = |life: &mut Life, second| life.look(second).0.remove(0);
    assert_eq!(one(&mut life, 0), (A.into(), H::Pending, "Probing".into()));
    life.says(A, true, 1);
    assert_eq!(one(&mut life, 1), (A.into(), H::Healthy, "Answered".into()));
    life.reports(A, false, 2);
    assert_eq!(one(&mut life, 2), (A.into(), H::Unhealthy, "ReportedUnhealthy".into()));
    life.reports(A, true, 3);
    assert_eq!(one(&mut life, 3), (A.into(), H::Healthy, "Answered".into()));
    life.says(A, false, 4);
    assert_eq!(one(&mut life, 4), (A.into(), H::Unhealthy, "ConnectionRefused".into()));
    assert_eq!(life.members[0].message.as_deref(), Some("nobody listens"));
    assert_eq!(life.members[0].source, Some(Source::Probe));
}

#[test]
fn without_a_probe_a_listed_server_is_healthy_until_it_reports_otherwise() {
    let mut life = Life::of(&[A]).unprobed();
    assert_eq!(life.look(0).0, [(A.into(), H::Healthy, "NotProbed".into())]);
    life.reports(A, false, 1);
    assert_eq!(life.health(1), [H::Unhealthy]);
}

#[test]
fn a_disabled_server_is_pending_and_counts_nowhere() {
    let mut life = Life::of(&[A, B]);
    life.says(A, true, 0);
    life.says(B, true, 0);
    life.look(0);
    life.roster.members[1].disabled = true;
    assert_eq!(life.look(1).0[1], (B.into(), H::Pending, DISABLED.into()));
    assert_eq!(life.members[1].healthy_until, None, "a freeze must not bring it back");
    let (counts, short) = count(&life.members);
    assert_eq!((counts.healthy, counts.disabled, counts.total, short.as_str()), (1, 1, 1, "1/1"));
}

#[test]
fn a_silent_reporter_expires_after_its_ttl_and_is_forgotten_later() {
    let mut life = Life::of(&[]);
    life.reports(A, true, 0);
    assert_eq!(life.look(0), (vec![(A.into(), H::Healthy, "ReportedHealthy".into())], Some(at(90))));
    assert_eq!(life.health(89), [H::Healthy]);
    let (said, next) = life.look(90);
    assert_eq!((said, next), (vec![(A.into(), H::Unhealthy, EXPIRED.into())], Some(at(3600))));
    assert_eq!(life.members[0].healthy_until.as_ref().map(|t| t.0), Some(at(90)));
    life.reports(A, true, 100);
    assert_eq!(life.health(100), [H::Healthy]);
    assert_eq!(life.health(190), [H::Unhealthy]);
    assert_eq!(life.health(3699), [H::Unhealthy]);
    assert_eq!(life.look(3700), (vec![], None));
}

#[test]
fn after_a_restart_nobody_is_called_silent_before_one_ttl_has_passed() {
    let mut life = Life::of(&[]);
    life.reports(A, true, 0);
    life.reports(B, false, 0);
    life.look(0);
    life.restart(1000);
    let before = life.members.clone();
    assert_eq!(life.look(1000).1, Some(at(1090)));
    assert_eq!(life.members, before, "a restart alone costs no write");
    assert_eq!(life.health(1089), [H::Healthy, H::Unhealthy]);
    assert_eq!(life.look(1090).0[0], (A.into(), H::Unhealthy, EXPIRED.into()));
}

#[test]
fn one_that_was_silent_before_a_restart_stays_so_and_is_forgotten_in_time() {
    let mut life = Life::of(&[]);
    life.reports(A, true, 0);
    life.look(0);
    assert_eq!(life.health(90), [H::Unhealthy]);
    life.restart(1000);
    assert_eq!(life.look(1000), (vec![(A.into(), H::Unhealthy, EXPIRED.into())], Some(at(3600))));
    assert_eq!(life.health(3600), []);
}

#[test]
fn a_listed_server_that_stops_reporting_is_judged_by_its_probe_alone_once_that_is_forgotten() {
    let mut life = Life::of(&[A]);
    life.says(A, true, 0);
    life.reports(A, true, 0);
    assert_eq!(life.health(0), [H::Healthy]);
    assert_eq!(life.health(90), [H::Unhealthy]);
    assert_eq!(life.health(3600), [H::Healthy]);
    assert_eq!(life.members[0].report, None);
}

#[test]
fn reports_that_are_no_longer_taken_count_no_longer() {
    let mut life = Life::of(&[A]);
    life.says(A, true, 0);
    life.reports(A, false, 0);
    life.reports(B, true, 0);
    assert_eq!(life.health(0), [H::Unhealthy, H::Healthy]);
    life.reports.enabled = false;
    assert_eq!(life.health(1), [H::Healthy]);
}

#[test]
fn a_restarted_or_changed_probe_keeps_the_verdict_it_had_until_there_is_another() {
    let mut life = Life::of(&[A, B]);
    life.says(A, true, 0);
    life.says(B, false, 0);
    life.look(0);
    let before = life.members.clone();
    life.restart(100);
    assert_eq!(life.look(100).1, None);
    assert_eq!(life.members, before, "a restart alone costs no write");
    life.says(B, true, 110);
    assert_eq!(life.health(110), [H::Healthy, H::Healthy]);
}

#[test]
fn a_server_that_failed_its_probes_is_kept_out_for_a_while() {
    let mut life = Life::of(&[A]);
    life.says(A, true, 0);
    life.look(0);
    life.says(A, false, 5);
    assert_eq!(life.health(5), [H::Unhealthy], "going takes no time");
    life.says(A, true, 6);
    assert_eq!(life.look(6).1, Some(at(15)));
    assert_eq!(life.health(14), [H::Unhealthy]);
    assert_eq!(life.health(15), [H::Healthy]);
}

#[test]
fn a_server_that_stays_down_for_other_reasons_is_not_written_again() {
    let mut life = Life::of(&[A]);
    life.says(A, false, 0);
    life.look(0);
    let before = life.members.clone();
    life.verdicts.insert(
        A.into(),
        Verdict { health: Health::Unhealthy, reason: "Timeout", message: "slow".into(), since: at(0) },
    );
    life.look(60);
    assert_eq!(life.members, before);
}

#[test]
fn what_was_healthy_remembers_until_when() {
    let mut life = Life::of(&[A, B]);
    life.says(A, true, 0);
    life.says(B, false, 0);
    life.look(0);
    life.says(A, false, 7);
    life.look(7);
    let until: Vec<_> = life.members.iter().map(|m| m.healthy_until.as_ref().map(|t| t.0)).collect();
    assert_eq!(until, [Some(at(7)), None], "one that never was healthy has nothing to remember");
    life.look(60);
    assert_eq!(life.members[0].healthy_until.as_ref().map(|t| t.0), Some(at(7)));
    life.says(A, true, 61);
    life.look(61);
    assert_eq!(life.members[0].healthy_until, None);
}

#[test]
fn a_server_without_an_address_yet_is_pending() {
    let mut life = Life::of(&[A]);
    life.roster.members[0].probing = Probing::NotYet;
    assert_eq!(life.look(0).0, [(A.into(), H::Pending, "NodeNotPublished".into())]);
}

#[test]
fn a_group_holds_at_most_five_hundred_servers() {
    let mut life = Life::of(&[A]).unprobed();
    for n in 0..600 {
        life.reports(&format!("10.1.{}.{}", n / 250, n % 250), true, 0);
    }
    assert_eq!(life.health(0).len(), MOST);
    assert!(life.members.iter().any(|member| member.id == A), "those of the spec come first");
}

#[test]
fn the_status_keeps_servers_in_the_order_of_their_addresses() {
    let mut life = Life::of(&["b.example.com", "10.0.0.10", "10.0.0.9"]).unprobed();
    life.look(0);
    let ids: Vec<_> = life.members.iter().map(|member| member.id.as_str()).collect();
    assert_eq!(ids, ["10.0.0.9", "10.0.0.10", "b.example.com"]);
}

#[test]
fn the_admitted_defaults_are_those_the_merge_is_told() {
    let group = ServerGroup::new("g", ServerGroupSpec::default());
    assert_eq!(crate::cli::duration(&group.spec.reporting.heartbeat_ttl), Ok(Duration::from_secs(90)));
    assert_eq!(crate::cli::duration(&group.spec.reporting.forget_after), Ok(Duration::from_secs(24 * 3600)));
}
