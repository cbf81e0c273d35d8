//! The zone writer and the Cloudflare client over HTTP, against the simulated Cloudflare and the DNS it feeds.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cloudsim::cloudflare::{Draft, Plan, RecordEdit, TokenSpec, ZoneSpec};
use cloudsim::faults::{Action, Fault};
use cloudsim::{Options, Sim};
use prometheus_client::registry::Registry;
use roadstead::api::names::{ClusterId, Fqdn, Mark};
use roadstead::dns::propagation::{self, Confirmation};
use roadstead::dns::{
    Checked, Cloudflare, Content, Declared, Desired, Owner, Published, Refusal, Token, Zone, ZoneConfig,
};
use roadstead::metrics::Metrics;
use roadstead::outside::OutsideError;
use roadstead::outside::budget::Budgets;
use tokio::sync::mpsc;

const DOMAIN: &str = "example.com";

/// One zone in a simulated Cloudflare, and its writer.
struct Rig {
    sim: Sim,
    client: Cloudflare,
    zone: Zone,
    wakes: mpsc::UnboundedReceiver<String>,
}

fn spec(value: &str, permissions: &[&str]) -> TokenSpec {
    TokenSpec {
        value: value.to_owned(),
        account: "main".to_owned(),
        user: None,
        permissions: permissions.iter().map(|permission| (*permission).to_owned()).collect(),
        status: "active".to_owned(),
        expires_on: None,
        account_owned: false,
    }
}

fn client(sim: &Sim, token: &str) -> Result<Cloudflare> {
    let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have been first
    let metrics = Metrics::register(&mut Registry::default());
    Ok(Cloudflare::new(&sim.cloudflare_api(), Token::new(token), "zone/test", Budgets::default(), metrics)?)
}

async fn start(plan: Plan) -> Result<Rig> {
    start_with(plan, &["zone:read", "dns:write"]).await
}

async fn start_with(plan: Plan, permissions: &[&str]) -> Result<Rig> {
    let sim = Sim::start(Options::default()).await?;
    sim.cloudflare.add_zone(ZoneSpec {
        name: DOMAIN.to_owned(),
        plan,
        account: "main".to_owned(),
        quota: None,
        refused: Vec::new(),
    });
    sim.cloudflare.put_token(spec("first", permissions));
    let client = client(&sim, "first")?;
    let domain = Fqdn::parse(DOMAIN)?;
    let facts = client.connect(&domain).await?;
    let (sender, wakes) = mpsc::unbounded_channel();
    let config = ZoneConfig {
        domain,
        batch_limit: facts.batch_limit,
        resync: Duration::from_hours(1),
        read_only: false,
        metrics: Metrics::register(&mut Registry::default()),
        wakes: sender,
        health_wake: None,
    };
    let zone = Zone::start(config, Arc::new(client.records(&facts.zone_id)));
    Ok(Rig { sim, client, zone, wakes })
}

fn owner(n: usize) -> Result<Owner> {
    let label = format!("web-{n}");
    let uid = format!("00000000-0000-4000-8000-{n:012x}");
    let mark = Mark::new(ClusterId::parse("0a1b2c3d")?, "Node", "shop", &label, &uid)?;
    Ok(Owner { mark, wake: label })
}

fn name(n: usize) -> Result<Fqdn> {
    Ok(Fqdn::parse(&format!("web-{n}.{DOMAIN}"))?)
}

fn want(n: usize, content: Content) -> Result<Desired> {
    Ok(Desired { name: name(n)?, content, ttl: 300, proxied: false })
}

fn address(n: usize) -> Content {
    let n = u32::try_from(n).unwrap_or_default();
    Content::A(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n))
}

impl Rig {
    /// Declares, and is woken, until the answer is neither pending nor a passing block.
    async fn answer(&mut self, n: usize, records: &[Desired]) -> Result<Declared> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.zone.declare(&owner(n)?, records.to_vec());
            match &answer {
                Declared::Pending
                | Declared::Blocked(
                    OutsideError::Unknown(_) | OutsideError::Unavailable(_) | OutsideError::RateLimited { .. },
                ) => {}
                _ => return Ok(answer),
            }
            let wake = tokio::time::timeout_at(deadline, self.wakes.recv()).await;
            wake.with_context(|| format!("still {answer:?}"))?.context("the writer is gone")?;
        }
    }

    async fn applied(&mut self, n: usize, records: &[Desired]) -> Result<Vec<Published>> {
        match self.answer(n, records).await? {
            Declared::Applied(published) => Ok(published),
            other => bail!("{other:?}"),
        }
    }

    /// Is woken until the answer is another than `before`.
    async fn answer_after(&mut self, n: usize, records: &[Desired], before: &Declared) -> Result<Declared> {
        while self.zone.declare(&owner(n)?, records.to_vec()) == *before {
            let wake = tokio::time::timeout(Duration::from_secs(20), self.wakes.recv()).await;
            wake.with_context(|| format!("still {before:?}"))?.context("the writer is gone")?;
        }
        self.answer(n, records).await
    }

    /// `METHOD path` of every request since the last time, in short.
    fn calls(&self) -> Vec<String> {
        let calls = self.sim.gate.journal.since(0);
        self.sim.gate.journal.clear();
        let short = |path: &str| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let name = query.split('&').find_map(|pair| pair.strip_prefix("name.exact="));
            let last = path.rsplit('/').next().unwrap_or_default().to_owned();
            name.map_or(last.clone(), |name| format!("{last} {name}"))
        };
        calls.iter().map(|entry| format!("{} {}", entry.method, short(&entry.path))).collect()
    }

    /// `name type content ttl` of every record, sorted.
    fn shown(&self) -> Vec<String> {
        let records = self.sim.cloudflare.records(DOMAIN);
        let mut shown: Vec<_> = records
            .iter()
            .map(|record| format!("{} {} {} {}", record.name, record.kind, record.content, record.ttl))
            .collect();
        shown.sort();
        shown
    }

    fn fault(&self, method: &str, path: &str, count: u64, action: Action) {
        let (method, path) = (Some(method.to_owned()), Some(path.to_owned()));
        self.sim.gate.faults.add(Fault { cloud: None, method, path, from: 1, count: Some(count), action });
    }

    /// Waits until the first listing is over, and forgets the calls so far.
    async fn listed(&mut self) -> Result<()> {
        let anybody = owner(9_999)?;
        while self.zone.check(&anybody, &name(9_999)?) == Checked::Pending {
            tokio::time::timeout(Duration::from_secs(10), self.wakes.recv()).await?;
        }
        self.calls();
        Ok(())
    }
}

fn by_hand(sim: &Sim, label: &str, kind: &str, content: &str) -> Result<String> {
    let draft = Draft {
        name: Some(format!("{label}.{DOMAIN}")),
        kind: Some(kind.to_owned()),
        content: Some(content.to_owned()),
        ttl: Some(300.0),
        ..Draft::default()
    };
    sim.cloudflare.add_record(DOMAIN, &draft).map_err(|error| anyhow::anyhow!(error))
}

#[tokio::test]
async fn records_reach_the_authority_change_in_place_and_leave_it_again() -> Result<()> {
    let mut rig = start(Plan::Free).await?;
    rig.listed().await?;
    let authority = [rig.sim.dns()];
    let text = "198.18.0.1,".repeat(30) + "\"quoted\" \\ end";
    let both = [want(1, address(1))?, want(1, Content::Txt(text.clone()))?];
    let published = rig.applied(1, &both).await?;
    ensure!(published.len() == 2);
    ensure!(
        rig.calls()
            == ["GET dns_records web-1.example.com", "GET usage", "POST batch", "GET dns_records web-1.example.com"]
    );
    let seen = propagation::confirm(&authority, &name(1)?, &[address(1), Content::Txt(text)], false).await;
    ensure!(seen == Confirmation::Confirmed, "{seen:?}");

    let moved = rig.applied(1, &[want(1, address(2))?]).await?;
    ensure!(moved[0].id == published[0].id, "a changed address keeps its record");
    ensure!(rig.calls().iter().filter(|call| call.starts_with("POST")).count() == 1);
    let seen = propagation::confirm(&authority, &name(1)?, &[address(2)], false).await;
    ensure!(seen == Confirmation::Confirmed, "{seen:?}");

    ensure!(rig.applied(1, &[]).await?.is_empty());
    let gone = propagation::withdrawn(&authority, &name(1)?, &address(2)).await;
    ensure!(gone == Confirmation::Confirmed, "{gone:?}");
    ensure!(rig.shown().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_proxied_record_comes_to_rest_and_costs_no_second_write() -> Result<()> {
    let mut rig = start(Plan::Pro).await?;
    let proxied = [Desired { proxied: true, ..want(1, address(1))? }];
    ensure!(rig.applied(1, &proxied).await?[0].ttl == 1);
    rig.calls();
    rig.zone.refresh();
    rig.applied(2, &[want(2, address(2))?]).await?;
    ensure!(rig.calls().iter().filter(|call| *call == "POST batch").count() == 1, "only the other record is written");
    Ok(())
}

#[tokio::test]
async fn a_thousand_names_fit_an_old_free_zone_in_five_batches_and_the_next_one_is_told_of_the_quota() -> Result<()> {
    let mut rig = start(Plan::FreeOld).await?;
    rig.listed().await?;
    for n in 0..1_000 {
        let _ = rig.zone.declare(&owner(n)?, vec![want(n, address(n))?]);
    }
    for n in 0..1_000 {
        rig.applied(n, &[want(n, address(n))?]).await?;
    }
    ensure!(rig.shown().len() == 1_000);
    let calls = rig.calls();
    let batches = calls.iter().filter(|call| *call == "POST batch").count();
    ensure!(batches <= 6 && calls.len() <= batches + 6, "{calls:?}");

    let answer = rig.answer(1_000, &[want(1_000, address(1_000))?]).await?;
    ensure!(answer == Declared::Refused(Refusal::Quota { used: 1_000, quota: 1_000 }), "{answer:?}");
    rig.applied(0, &[]).await?;
    let answer = rig.answer_after(1_000, &[want(1_000, address(1_000))?], &answer).await?;
    ensure!(matches!(answer, Declared::Applied(_)), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_record_cloudflare_refuses_delays_none_of_the_others() -> Result<()> {
    let mut rig = start(Plan::Pro).await?;
    rig.listed().await?;
    let wanted = |n: usize| -> Result<[Desired; 1]> {
        Ok([Desired { ttl: if n == 123 { 59 } else { 300 }, ..want(n, address(n))? }])
    };
    for n in 0..500 {
        let _ = rig.zone.declare(&owner(n)?, wanted(n)?.to_vec());
    }
    for n in (0..500).filter(|n| *n != 123) {
        rig.applied(n, &wanted(n)?).await?;
    }
    let answer = rig.answer(123, &wanted(123)?).await?;
    let Declared::Refused(refusal) = &answer else { bail!("{answer:?}") };
    ensure!(refusal.to_string().contains("9021 TTL must be between"), "{refusal}");
    let calls = rig.calls();
    ensure!(calls.len() <= 25, "{calls:?}");
    Ok(())
}

#[tokio::test]
async fn foreign_records_are_named_and_never_touched() -> Result<()> {
    let mut rig = start(Plan::Free).await?;
    for (n, kind, content) in [(1, "A", "192.0.2.1"), (2, "AAAA", "2001:db8::1"), (3, "CNAME", "elsewhere.example.net")]
    {
        let id = by_hand(&rig.sim, &format!("web-{n}"), kind, content)?;
        let answer = rig.answer(n, &[want(n, address(n))?]).await?;
        let expected = Refusal::Foreign {
            name: name(n)?,
            kind: kind.to_owned(),
            content: content.to_owned(),
            record_id: id.clone(),
        };
        ensure!(answer == Declared::Refused(expected), "{answer:?}");
        ensure!(rig.sim.cloudflare.remove_record(&id));
        rig.zone.refresh();
        let healed = rig.answer_after(n, &[want(n, address(n))?], &answer).await?;
        ensure!(matches!(healed, Declared::Applied(_)), "{healed:?}");
    }
    // Taken over by a person: the mark is gone, so the record is theirs.
    let ours = rig.applied(1, &[want(1, address(1))?]).await?;
    let edit = RecordEdit { comment: Some("mine now".to_owned()), ..RecordEdit::default() };
    ensure!(rig.sim.cloudflare.edit_record(&ours[0].id, &edit));
    let answer = rig.answer(1, &[want(1, address(7))?]).await?;
    ensure!(matches!(answer, Declared::Refused(Refusal::Foreign { .. })), "{answer:?}");
    ensure!(rig.shown().contains(&"web-1.example.com A 198.18.0.1 300".to_owned()), "{:?}", rig.shown());
    Ok(())
}

#[tokio::test]
async fn whatever_becomes_of_a_write_there_is_one_record_in_the_end() -> Result<()> {
    for (case, action) in [
        ("cut before", Action::CutBefore),
        ("cut after", Action::CutAfter),
        ("committed late", Action::CommitLate { ms: 300 }),
        ("server error", Action::Status { status: 500, body: None, retry_after: None }),
    ] {
        let mut rig = start(Plan::Free).await?;
        rig.listed().await?;
        rig.fault("POST", "*/batch", 1, action);
        rig.applied(1, &[want(1, address(1))?]).await.context(case)?;
        ensure!(rig.shown() == ["web-1.example.com A 198.18.0.1 300"], "{case}: {:?}", rig.shown());
        let calls = rig.calls();
        let after = calls.iter().position(|call| call == "POST batch").map_or(0, |at| at + 1);
        ensure!(calls.get(after).is_some_and(|call| call.starts_with("GET dns_records")), "{case}: {calls:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_listing_writes_nothing_and_what_the_api_asks_to_wait_is_waited() -> Result<()> {
    let mut rig = start(Plan::Free).await?;
    rig.applied(1, &[want(1, address(1))?]).await?;
    let busy = Action::Status { status: 429, body: None, retry_after: Some(2) };
    rig.fault("GET", "*/dns_records*", 1, busy);
    rig.calls();
    let began = tokio::time::Instant::now();
    rig.applied(2, &[want(2, address(2))?]).await?;
    ensure!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    ensure!(rig.calls()[..2].iter().all(|call| call.starts_with("GET dns_records")));
    ensure!(rig.shown().len() == 2);
    Ok(())
}

#[tokio::test]
async fn a_missing_permission_is_named_and_a_better_token_takes_effect_at_once() -> Result<()> {
    let mut rig = start_with(Plan::Free, &["zone:read", "dns:read"]).await?;
    let answer = rig.answer(1, &[want(1, address(1))?]).await?;
    let Declared::Blocked(OutsideError::Forbidden(text)) = &answer else { bail!("{answer:?}") };
    ensure!(text.contains("dns_records/batch") && text.contains("Zone > DNS > Edit"), "{text}");

    rig.sim.cloudflare.put_token(spec("second", &["zone:read", "dns:write"]));
    rig.zone.set_token("2", Token::new("second\n"));
    let began = tokio::time::Instant::now();
    let healed = rig.answer_after(1, &[want(1, address(1))?], &answer).await?;
    ensure!(matches!(healed, Declared::Applied(_)), "{healed:?}");
    ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    rig.sim.cloudflare.revoke_token("second");
    let answer = rig.answer(1, &[]).await?;
    ensure!(matches!(answer, Declared::Blocked(OutsideError::Unauthorized(_))), "{answer:?}");
    ensure!(rig.shown().len() == 1, "nothing is deleted because of it");
    Ok(())
}

#[tokio::test]
async fn connecting_says_what_is_wrong_with_a_token_or_a_domain() -> Result<()> {
    let rig = start(Plan::Pro).await?;
    let domain = Fqdn::parse(DOMAIN)?;
    let facts = rig.client.connect(&domain).await?;
    ensure!(facts.batch_limit == 3_500 && facts.status == "active", "{facts:?}");

    let mut by_account = spec("of-account", &["zone:read", "dns:write"]);
    by_account.account_owned = true;
    rig.sim.cloudflare.put_token(by_account);
    ensure!(client(&rig.sim, "of-account")?.connect(&domain).await? == facts);

    let wrong = client(&rig.sim, "no-such-token")?.connect(&domain).await;
    ensure!(matches!(wrong, Err(OutsideError::Unauthorized(_))), "{wrong:?}");
    let mut disabled = spec("disabled", &["zone:read", "dns:write"]);
    disabled.status = "disabled".to_owned();
    rig.sim.cloudflare.put_token(disabled);
    let refused = client(&rig.sim, "disabled")?.connect(&domain).await;
    ensure!(matches!(refused, Err(OutsideError::Unauthorized(_))), "{refused:?}");

    let elsewhere = rig.client.connect(&Fqdn::parse("example.org")?).await;
    ensure!(matches!(&elsewhere, Err(OutsideError::Refused { code, .. }) if code == "zone-not-found"), "{elsewhere:?}");

    let mut other = spec("of-others", &["zone:read", "dns:write"]);
    other.account = "others".to_owned();
    rig.sim.cloudflare.add_account("others");
    rig.sim.cloudflare.put_token(other);
    let strange = client(&rig.sim, "of-others")?;
    ensure!(strange.connect(&domain).await.is_err());
    // Even with the id of the zone at hand, another account's token reads nothing from it.
    let records = strange.records(&facts.zone_id);
    let listing = roadstead::dns::RecordsApi::list(&records, roadstead::outside::budget::Priority::Normal).await;
    ensure!(listing.is_err(), "{listing:?}");
    Ok(())
}
