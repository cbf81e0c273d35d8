//! What a change of the status adds to the history (pure): the prober's verdicts, and silence. What servers report is
//! written there by who takes the reports, each of them and not the changes alone.

use super::merge::EXPIRED;
use crate::api::server_group::{MemberStatus, Source as Decider, SourceStatus};
use crate::store::{Entry, Health, Source};

/// The entries that tell how the `old` members became the `new` ones.
#[must_use]
pub fn entries(group_uid: &str, old: &[MemberStatus], new: &[MemberStatus]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for member in new {
        let before = old.iter().find(|before| before.id == member.id);
        let entry = |source, said: &SourceStatus, details: String| Entry {
            group_uid: group_uid.to_owned(),
            member: member.id.clone(),
            source,
            health: if said.healthy { Health::Healthy } else { Health::Unhealthy },
            details: Some(details),
            at: said.since.0,
        };
        let probed = before.and_then(|before| before.probe.as_ref());
        if let Some(probe) = member.probe.as_ref().filter(|probe| probed.map(|p| p.healthy) != Some(probe.healthy)) {
            let message = member.message.as_ref().filter(|_| member.source == Some(Decider::Probe));
            let details = message.map_or_else(|| probe.reason.clone(), |why| format!("{}: {why}", probe.reason));
            entries.push(entry(Source::Probe, probe, details));
        }
        let was_silent =
            before.and_then(|before| before.report.as_ref()).is_some_and(|report| report.reason == EXPIRED);
        if let Some(report) = member.report.as_ref().filter(|report| report.reason == EXPIRED && !was_silent) {
            entries.push(entry(Source::Silence, report, EXPIRED.to_owned()));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::server_group::{MemberHealth, Origin};

    fn said(healthy: bool, reason: &str) -> SourceStatus {
        let since = Time(Timestamp::from_second(1_800_000_000).unwrap());
        SourceStatus { healthy, reason: reason.to_owned(), since }
    }

    fn member(id: &str, probe: Option<SourceStatus>, report: Option<SourceStatus>) -> MemberStatus {
        MemberStatus {
            id: id.to_owned(),
            origin: Origin::Listed,
            node: None,
            asked: None,
            health: MemberHealth::Pending,
            source: Some(Decider::Probe),
            reason: String::new(),
            message: Some("nobody listens".to_owned()),
            added: None,
            since: Time(Timestamp::UNIX_EPOCH),
            healthy_until: None,
            probe,
            report,
        }
    }

    #[test]
    fn a_verdict_or_a_silence_is_told_once_and_a_report_never() {
        let told = |old: &[MemberStatus], new: &[MemberStatus]| -> Vec<(&'static str, &'static str, String)> {
            let entries = entries("uid", old, new).into_iter();
            entries.map(|e| (e.source.as_str(), e.health.as_str(), e.details.unwrap_or_default())).collect()
        };
        let down = || member("a", Some(said(false, "ConnectionRefused")), None);
        let expected = ("probe", "unhealthy", "ConnectionRefused: nobody listens".to_owned());
        assert_eq!(told(&[], &[down()]), std::slice::from_ref(&expected));
        assert_eq!(told(&[member("a", Some(said(true, "Status")), None)], &[down()]), [expected]);
        // Another reason for the same verdict is no news.
        assert_eq!(told(&[member("a", Some(said(false, "Timeout")), None)], &[down()]), []);
        let reports = |reason: &str| member("a", None, Some(said(false, reason)));
        assert_eq!(told(&[], &[reports("ReportedUnhealthy")]), []);
        let silence = ("silence", "unhealthy", EXPIRED.to_owned());
        assert_eq!(told(&[reports("ReportedUnhealthy")], &[reports(EXPIRED)]), [silence]);
        assert_eq!(told(&[reports(EXPIRED)], &[reports(EXPIRED)]), []);
    }
}
