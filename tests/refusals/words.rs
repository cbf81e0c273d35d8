//! Whether the table is complete: every reason that stands in the source is in it, or its test is named here.
//!
//! A reason is a word in CamelCase between quotes. So are the names of conditions, kinds and events, which are listed as
//! what they are: a new word anywhere fails the test until somebody says what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::rows::rows;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where reasons are given.
const SOURCES: [&str; 5] = ["src/controllers", "src/dns", "src/cloud", "src/runtime", "src/slb/plan.rs"];

/// Reasons that need more than a spec to be met, and a file whose tests meet them.
const ELSEWHERE: [(&str, &str); 91] = [
    ("AccountChanged", "tests/zones.rs"),
    ("DeletionHeld", "tests/providers.rs"),
    ("Expired", "tests/environment.rs"),
    ("InUse", "tests/zones.rs"),
    ("MassAbsence", "tests/providers.rs"),
    ("PropagationTimeout", "tests/node.rs"),
    ("RateLimited", "tests/outages.rs"),
    ("ReadOnly", "tests/outages.rs"),
    ("SlugTaken", "tests/groups.rs"),
    ("UnknownValue", "src/controllers/node/plan/tests.rs"),
    ("VMLost", "tests/node.rs"),
    ("VMMissing", "src/controllers/node/plan/tests.rs"),
    ("WithdrawalRefused", "src/controllers/node/plan/tests.rs"),
    ("ZoneChanged", "src/controllers/zone/plan_tests.rs"),
    // Of the Worker of a ServerGroup.
    ("ForeignWorker", "tests/groups_worker.rs"),
    ("InvalidWorkerName", "tests/groups_worker.rs"),
    ("NotAllowed", "tests/groups_worker.rs"),
    ("OriginIsAddress", "src/slb/plan_tests.rs"),
    ("OriginNotServed", "src/controllers/server_group/worker/tests.rs"),
    ("OriginsNotPlainText", "src/slb/plan_tests.rs"),
    ("OriginsTooLong", "src/slb/plan_tests.rs"),
    ("PlaceTaken", "src/slb/plan_tests.rs"),
    ("WorkerMissing", "tests/groups_worker.rs"),
    ("WorkerTaken", "tests/groups_worker.rs"),
    ("WorkersNotAllowed", "tests/groups_worker.rs"),
    ("WorkersNotConfigured", "tests/groups_worker.rs"),
    // Of the host of a Node.
    ("BootstrapFailed", "src/controllers/node/bootstrap_tests.rs"),
    ("CaddyConfigRefused", "src/controllers/node/bootstrap_tests.rs"),
    ("CertificatePending", "src/controllers/node/plan/host_tests.rs"),
    ("HostChangesHeld", "src/controllers/node/bootstrap_tests.rs"),
    ("HostImagesMissing", "tests/hosts_ssh/main.rs"),
    ("HostKeyChanged", "tests/hosts_ssh/main.rs"),
    ("HostKeyUnknown", "tests/hosts_ssh/main.rs"),
    ("HostUnreachable", "tests/hosts_ssh/main.rs"),
    ("InvalidHealthPath", "src/controllers/node/bootstrap_tests.rs"),
    ("InvalidHostSettings", "src/controllers/node/bootstrap_tests.rs"),
    ("InvalidSSH", "src/controllers/hosts/tests.rs"),
    ("NoSudo", "tests/hosts_ssh/main.rs"),
    ("OtherOwner", "src/controllers/node/bootstrap_tests.rs"),
    ("PortInUse", "src/controllers/node/bootstrap_tests.rs"),
    ("SSHKeyRefused", "tests/hosts_ssh/main.rs"),
    ("SSHKeyUnusable", "src/controllers/hosts/keys_tests.rs"),
    ("UnsupportedSystem", "src/controllers/node/bootstrap_tests.rs"),
    // The operator's own rights.
    ("SecretForbidden", "src/controllers/credential.rs"),
    // Of what an AppDeployment refers to, and of its revisions.
    ("ComposeTooLong", "src/controllers/app_deployment/material/tests.rs"),
    ("ConfigMapKeyMissing", "src/controllers/app_deployment/material/tests.rs"),
    ("ConfigMapMissing", "tests/app_material.rs"),
    ("InvalidFile", "src/controllers/app_deployment/material/content.rs"),
    ("InvalidName", "tests/app_material.rs"),
    ("InvalidPullSecret", "src/controllers/app_deployment/material/registries.rs"),
    ("InvalidVariable", "src/controllers/app_deployment/material/content.rs"),
    ("NamespaceNotReadable", "tests/app_material.rs"),
    ("OperatorNamespace", "tests/app_material.rs"),
    ("RevisionMissing", "tests/app_material.rs"),
    ("RevisionTaken", "tests/app_material.rs"),
    ("RevisionUnreadable", "tests/app_material.rs"),
    // Of an app and its deploys.
    ("ComposeRefused", "src/controllers/app_deployment/plan/tests.rs"),
    ("ContainerExited", "src/controllers/app_deployment/plan/tests.rs"),
    ("ContainerMissing", "src/controllers/app_deployment/plan/tests.rs"),
    ("CrashLooping", "src/controllers/app_deployment/plan/tests.rs"),
    ("DependencyFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("DependencyNotReady", "src/controllers/app_deployment/plan/tests.rs"),
    ("DeployFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("DiskFull", "src/host/deploy/failure.rs"),
    ("DomainNotVerified", "src/controllers/app_deployment/plan/tests.rs"),
    ("EnvironmentNotFound", "src/controllers/app_deployment/observe.rs"),
    ("ExternalHealthFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("ForeignContainers", "src/controllers/app_deployment/plan/tests.rs"),
    ("HandedOver", "src/controllers/app_deployment/plan/tests/handover.rs"),
    ("HostNotManaged", "src/controllers/app_deployment/observe.rs"),
    ("ImageNotFound", "src/controllers/app_deployment/plan/tests.rs"),
    ("InvalidSelector", "src/controllers/app_deployment/observe.rs"),
    ("NetworkFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("NoNodeSelected", "src/controllers/app_deployment/observe.rs"),
    ("NodeNotFound", "src/controllers/app_deployment/plan/tests.rs"),
    ("OOMKilled", "src/host/deploy/plan_tests.rs"),
    ("PreDeployFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("PreDeployTimedOut", "src/controllers/app_deployment/plan/tests.rs"),
    ("PullDenied", "src/host/deploy/failure.rs"),
    ("PullFailed", "src/host/deploy/failure.rs"),
    ("ServiceFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("StartFailed", "src/controllers/app_deployment/plan/tests.rs"),
    ("SwapRefused", "src/controllers/app_deployment/plan/tests.rs"),
    ("Unhealthy", "src/controllers/app_deployment/plan/tests.rs"),
    ("VolumesStayBehind", "src/controllers/app_deployment/plan/tests.rs"),
    ("WrongArchitecture", "src/host/deploy/failure.rs"),
    // The schema lets nothing through that would be refused so.
    ("InvalidAddress", "src/controllers/node/plan/tests.rs"),
    ("InvalidSlug", "src/controllers/server_group/plan_tests.rs"),
    ("InvalidBrake", "src/controllers/provider/plan_tests.rs"),
    ("InvalidLifetime", "src/controllers/environment/tests/decisions.rs"),
    ("UnknownProvider", "src/controllers/provider/plan_tests.rs"),
];

/// Reasons of what is under way, or of what failed and is tried again: nobody has to do anything.
const PASSING: [&str; 51] = [
    "Adopting",
    "Bootstrapping",
    "ChangingSlug",
    "CheckingName",
    "Conflict",
    "ConnectionLost",
    "CreatingNode",
    "CreatingVM",
    "DeleteRefused",
    "Deleting",
    "Deploying",
    "DockerUnavailable",
    "DeletingVM",
    "DomainReserved",
    "Expiring",
    "HandingOver",
    "Internal",
    "KubernetesAPI",
    "KubernetesForbidden",
    "Moving",
    "NoSubnetLeft",
    "NoTarget",
    "NodeDeleted",
    "NodeNotReady",
    "OutcomeUnknown",
    "Paused",
    "PendingEvent",
    "Propagating",
    "Publishing",
    "ReadingZone",
    "Refused",
    "Releasing",
    "RegistryBusy",
    "RegistryUnavailable",
    "Removing",
    "Replacing",
    "RoutingTableMissing",
    "Starting",
    "SubnetTaken",
    "Suspended",
    "TakingOver",
    "Unavailable",
    "Waiting",
    "WaitingForAddress",
    "WaitingForEarlierNode",
    "WaitingForNode",
    "WaitingForOtherHosts",
    "WaitingForTTL",
    "Withdrawing",
    "Withdrawn",
    "Probing",
];

/// Words that are no reason of Ready being False.
const WORDS: [&str; 86] = [
    // Phases, and values of conditions and claims.
    "Active",
    "Error",
    "Failed",
    "False",
    "Held",
    "Pending",
    "Provisioning",
    "Tombstone",
    "True",
    "Unknown",
    // Conditions other than Ready, and what they say when all is well.
    "Accepted",
    "NoHost",
    "Bootstrapped",
    "Deployed",
    "CredentialReady",
    "NotPublished",
    "Provisioned",
    "Published",
    "Reachable",
    "Ready",
    "RecordPublished",
    "Resolvable",
    "StaticHost",
    "VMReady",
    // What a ServerGroup says of its members and its list, none of which is Ready being False.
    "AllProbesFailed",
    "Disabled",
    "Frozen",
    "Healthy",
    "HeartbeatExpired",
    "KeepsLast",
    "ListTooLong",
    "NetworkDown",
    "NoHealthyServers",
    "NodeNotPublished",
    "NotProbed",
    "ProbeFailed",
    "ProbeSucceeded",
    "ProberIsolated",
    "ReportedHealthy",
    "ReportedUnhealthy",
    "Restored",
    "ServerGroup",
    "Thawed",
    "TooManyMembers",
    "Truncated",
    "WorkerReady",
    // What an AppDeployment says of being served now.
    "Available",
    "ContainerRestarting",
    "DNSMismatch",
    "Maintenance",
    "NotProbedYet",
    "NothingServes",
    "Serving",
    // Events.
    "Abandoned",
    "ExpiringSoon",
    "HostChanged",
    "HostLeft",
    "HostRepaired",
    "LeftBehind",
    "OrphansFound",
    "RevisionLive",
    "Revived",
    "RolledBack",
    "SlugChanged",
    "SurplusVMDeleted",
    "TokenInstalled",
    "Undecodable",
    "VMCreated",
    // Steps in journals.
    "CreateNode",
    "CreateVM",
    "DeleteVM",
    "Settled",
    // Names of kinds, of APIs and of what they answer.
    "AlreadyExists",
    "AppDeployment",
    "Cloudflare",
    "ConfigMap",
    "Credential",
    "DigitalOcean",
    "Environment",
    "Material",
    "Node",
    "Provider",
    "Recipe",
    "Reconcile",
    "Secret",
    "Zone",
];

/// Every quoted word in CamelCase outside tests, and a file it stands in.
fn words() -> BTreeMap<String, String> {
    fn gather(path: &Path, into: &mut BTreeMap<String, String>) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("tests") || name == "fake.rs" || name == "fake_api.rs" || name == "words.rs" {
            return;
        }
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                gather(&entry.unwrap().path(), into);
            }
            return;
        }
        let text = std::fs::read_to_string(path).unwrap();
        // Tests stand at the end of their file.
        let heads = ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\npub(crate) mod tests {"];
        let end = heads.iter().filter_map(|head| text.find(head)).min().unwrap_or(text.len());
        let code = &text[..end];
        for word in quoted(code) {
            into.entry(word.to_owned()).or_insert_with(|| path.display().to_string());
        }
    }
    let mut words = BTreeMap::new();
    for source in SOURCES {
        gather(&Path::new(ROOT).join(source), &mut words);
    }
    words
}

/// Words between quotes that begin with a capital letter and have small ones, too.
fn quoted(code: &str) -> impl Iterator<Item = &str> {
    let is_word = |text: &&str| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|b| b.is_ascii_alphabetic())
            && text.bytes().any(|b| b.is_ascii_lowercase())
    };
    // Quotes need no pairing: what stands between two literals is no single word.
    code.split('"').filter(is_word)
}

#[test]
fn every_reason_in_the_source_is_in_the_table_or_has_its_test_elsewhere_and_the_readme_explains_it() {
    let words = words();
    let table: BTreeSet<&str> = rows().iter().map(|row| row.reason).collect();
    let elsewhere = ELSEWHERE.iter().map(|(reason, _)| *reason);
    let listed: Vec<&str> = table.iter().copied().chain(elsewhere).chain(PASSING).chain(WORDS).collect();
    let unknown: Vec<_> = words.iter().filter(|(word, _)| !listed.contains(&word.as_str())).collect();
    assert!(
        unknown.is_empty(),
        "reasons without a row in the table, or words to be listed as something else: {unknown:#?}"
    );
    let gone: Vec<_> = listed.iter().filter(|word| !words.contains_key(**word)).collect();
    assert!(gone.is_empty(), "nothing in the source says {gone:?}");
    let distinct: BTreeSet<_> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "listed twice");

    let read =
        |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    for (reason, file) in ELSEWHERE {
        let text = read(file);
        let tests = if file.contains("test") { &text } else { text.split("#[cfg(test)]").last().unwrap() };
        assert!(tests.contains(reason), "no test in {file} speaks of {reason}");
    }
    let readme = read("README.md");
    let reasons = &listed[..listed.len() - WORDS.len()];
    let mute: Vec<_> = reasons.iter().filter(|reason| !readme.contains(&format!("`{reason}`"))).collect();
    assert!(mute.is_empty(), "the README does not explain {mute:?}");
}
