"""Runs Cloudflare's official client, cloudflare-python, unmodified against cloudsim: every call the operator makes."""

import cloudflare
from cloudflare import Cloudflare

from fixtures import CloudflareAccount
from harness import refused, run, same

MARK = "roadstead/1 c=check o=aaaaaaaaaaaaaaaaaaaaaaaaaa k=0123456789abcdef"


def client_of(simulator, token):
    # Without retries: a check wants to see the answer itself.
    return Cloudflare(api_token=token, base_url=f"{simulator.url}/cloudflare/client/v4", max_retries=0)


def codes(error):
    """The status and the error codes, from the body and as the client parsed them."""
    body = error.body
    same((body["success"], body["result"]), (False, None))
    parsed = [item.code for item in error.errors]
    same(parsed, [item["code"] for item in body["errors"]])
    assert all(item["message"] for item in body["errors"]), body
    return error.status_code, parsed


class Bench:
    """An account with one zone, and a client with a token that may read zones and write DNS."""

    def __init__(self, simulator, plan="pro"):
        self.simulator = simulator
        self.account = CloudflareAccount(simulator)
        self.zone_id, self.domain = self.account.new_zone(plan)
        self.token = self.account.new_token()
        self.client = client_of(simulator, self.token)
        self.records = self.client.dns.records

    def create(self, label, content="203.0.113.7", **more):
        body = {"type": "A", "name": f"{label}.{self.domain}", "content": content, "ttl": 300, **more}
        return self.records.create(zone_id=self.zone_id, **body)

    def list(self, **query):
        return self.records.list(zone_id=self.zone_id, **query)

    def names(self, **query):
        return sorted(record.name.removesuffix(f".{self.domain}") for record in self.list(**query))


def check_token_verification(simulator):
    bench = Bench(simulator)
    verified = bench.client.user.tokens.verify()
    same((verified.status, verified.expires_on), ("active", None))
    assert verified.id, verified

    owned = bench.account.new_token(account_owned=True)
    verified = client_of(simulator, owned).accounts.tokens.verify(account_id=bench.account.id)
    same(verified.status, "active")

    unknown = client_of(simulator, "an-unknown-token")
    error = refused(cloudflare.AuthenticationError, unknown.user.tokens.verify)
    same(error.status_code, 401)
    past = client_of(simulator, bench.account.new_token(expires_on="2001-01-01T00:00:00Z"))
    expired = past.user.tokens.verify()
    same(expired.status, "expired")
    refused(cloudflare.AuthenticationError, lambda: past.zones.list(name=bench.domain))


def check_zone_lookup(simulator):
    bench = Bench(simulator)
    zones = list(bench.client.zones.list(name=bench.domain))
    same(len(zones), 1)
    zone = zones[0]
    same((zone.id, zone.name, zone.status), (bench.zone_id, bench.domain, "active"))
    same(zone.account.id, bench.account.id)
    assert zone.name_servers and zone.plan.legacy_id, zone
    same(list(bench.client.zones.list(name="elsewhere.example")), [])
    same(bench.client.zones.get(zone_id=bench.zone_id).name, bench.domain)


def check_life_of_a_record(simulator):
    bench = Bench(simulator)
    made = bench.create("web-1", comment=MARK)
    same((made.type, made.name, made.content), ("A", f"web-1.{bench.domain}", "203.0.113.7"))
    same((made.ttl, made.proxied, made.comment), (300, False, MARK))
    assert made.created_on and made.modified_on and made.proxiable, made

    edited = bench.records.edit(made.id, zone_id=bench.zone_id, type="A", name=made.name, content="203.0.113.8", ttl=60)
    same((edited.id, edited.content, edited.ttl, edited.comment), (made.id, "203.0.113.8", 60, MARK))
    # PUT resets what it does not name: the comment, which is our mark, is gone.
    put = bench.records.update(made.id, zone_id=bench.zone_id, type="A", name=made.name, content="203.0.113.9", ttl=1)
    same((put.content, put.ttl, put.comment), ("203.0.113.9", 1, None))
    same(bench.records.get(made.id, zone_id=bench.zone_id), put)
    same(bench.records.delete(made.id, zone_id=bench.zone_id).id, made.id)
    error = refused(cloudflare.NotFoundError, lambda: bench.records.delete(made.id, zone_id=bench.zone_id))
    same(codes(error), (404, [81044]))


def check_list_filters(simulator):
    bench = Bench(simulator)
    for number in range(3):
        bench.create(f"web-{number}", content=f"203.0.113.{number + 1}", comment=MARK)
    bench.create("db", content="198.51.100.1", comment="by hand")
    bench.records.create(zone_id=bench.zone_id, type="TXT", name=f"_wrap.{bench.domain}", content='"a,b"', ttl=60)
    same(bench.names(name={"exact": f"web-1.{bench.domain}"}), ["web-1"])
    same(bench.names(name={"exact": f"web.{bench.domain}"}), [])
    same(bench.names(type="TXT"), ["_wrap"])
    same(bench.names(type="A"), ["db", "web-0", "web-1", "web-2"])
    same(bench.names(content={"exact": "198.51.100.1"}), ["db"])
    same(bench.names(comment={"startswith": "roadstead/1 C=CHECK"}), ["web-0", "web-1", "web-2"])
    same(bench.names(comment={"exact": "by hand"}), ["db"])
    same(bench.names(type="A", comment={"startswith": "roadstead/1"}, match="all"), ["web-0", "web-1", "web-2"])


def check_paging(simulator):
    bench = Bench(simulator)
    for number in range(7):
        bench.create(f"n{number}")
    page = bench.list(per_page=3, order="name")
    info = page.to_dict()["result_info"]
    same((info["page"], info["per_page"], info["count"], info["total_count"], info["total_pages"]), (1, 3, 3, 7, 3))
    # Iterating asks for further pages until one is empty.
    same([record.name.split(".")[0] for record in page], [f"n{number}" for number in range(7)])
    same(bench.list(per_page=3, page=4).result, [])


def check_txt_records(simulator):
    bench = Bench(simulator)

    def txt(label, content):
        name = f"{label}.{bench.domain}"
        return bench.records.create(zone_id=bench.zone_id, type="TXT", name=name, content=content, ttl=60)

    same(txt("quoted", '"203.0.113.1,203.0.113.2"').content, '"203.0.113.1,203.0.113.2"')
    same(txt("bare", "hello world").content, '"hello world"')
    long = txt("long", '"' + "x" * 300 + '"').content
    same("".join(part for part in long.split('"') if part.strip()), "x" * 300)


def check_batch(simulator):
    bench = Bench(simulator)
    old = bench.create("old")
    kept = bench.create("kept", comment=MARK)
    post = {"type": "A", "name": f"new.{bench.domain}", "content": "203.0.113.3", "ttl": 300, "comment": MARK}
    done = bench.records.batch(
        zone_id=bench.zone_id,
        deletes=[{"id": old.id}],
        patches=[{"id": kept.id, "content": "203.0.113.4"}],
        posts=[post],
    )
    same([record.id for record in done.deletes], [old.id])
    same([(record.id, record.content, record.comment) for record in done.patches], [(kept.id, "203.0.113.4", MARK)])
    same([record.name for record in done.posts], [post["name"]])
    assert not done.puts, done
    same(bench.names(), ["kept", "new"])

    # All or nothing, and only the first error is named.
    bad = [{**post, "name": f"ok.{bench.domain}"}, {**post, "content": "not-an-address"}, post]
    error = refused(
        cloudflare.BadRequestError,
        lambda: bench.records.batch(zone_id=bench.zone_id, deletes=[{"id": kept.id}], posts=bad),
    )
    same(len(codes(error)[1]), 1)
    same(bench.names(), ["kept", "new"])


def check_batch_limit_and_quota_of_a_free_zone(simulator):
    bench = Bench(simulator, plan="free")
    usage = bench.client.dns.usage.zone.get(zone_id=bench.zone_id)
    same((usage.record_usage, usage.record_quota), (0, 200))

    def posts(first, count):
        numbers = range(first, first + count)
        return [{"type": "A", "name": f"n{number}.{bench.domain}", "content": "203.0.113.1", "ttl": 60} for number in numbers]

    def batch(records):
        return bench.records.batch(zone_id=bench.zone_id, posts=records)

    error = refused(cloudflare.BadRequestError, lambda: batch(posts(0, 201)))
    same(error.status_code, 400)
    same(len(batch(posts(0, 200)).posts), 200)
    same(bench.client.dns.usage.zone.get(zone_id=bench.zone_id).record_usage, 200)
    error = refused(cloudflare.BadRequestError, lambda: bench.create("one-too-many"))
    same(codes(error), (400, [81045]))


def check_refused_records(simulator):
    bench = Bench(simulator)
    first = bench.create("web-1")
    error = refused(cloudflare.BadRequestError, lambda: bench.create("web-1"))
    same(codes(error)[0], 400)
    assert codes(error)[1][0] in (81057, 81058), error.body
    cname = {"type": "CNAME", "name": first.name, "content": "origin.example.net", "ttl": 300}
    error = refused(cloudflare.BadRequestError, lambda: bench.records.create(zone_id=bench.zone_id, **cname))
    same(codes(error)[1], [81053])
    for change in ({"content": "203.0.113.256"}, {"ttl": 59}, {"ttl": 86_401}, {"comment": "x" * 501}):
        error = refused(cloudflare.BadRequestError, lambda change=change: bench.create("web-2", **change))
        same(codes(error)[0], 400)
    same(bench.names(), ["web-1"])


def check_permissions(simulator):
    bench = Bench(simulator)
    reader = client_of(simulator, bench.account.new_token(dns_write=False))
    record = {"type": "A", "name": f"web-1.{bench.domain}", "content": "203.0.113.7", "ttl": 300}
    error = refused(
        cloudflare.PermissionDeniedError,
        lambda: reader.dns.records.create(zone_id=bench.zone_id, **record),
    )
    same(codes(error), (403, [10000]))
    same(list(reader.dns.records.list(zone_id=bench.zone_id)), [])

    stranger = client_of(simulator, CloudflareAccount(simulator).new_token())
    same(list(stranger.zones.list(name=bench.domain)), [])
    error = refused(
        cloudflare.PermissionDeniedError,
        lambda: list(stranger.dns.records.list(zone_id=bench.zone_id)),
    )
    same(error.status_code, 403)


def check_rate_limit_headers(simulator):
    bench = Bench(simulator)
    answer = bench.client.zones.with_raw_response.list(name=bench.domain)
    same(answer.status_code, 200)
    limit, policy = answer.headers["ratelimit"], answer.headers["ratelimit-policy"]
    assert ";r=" in limit and ";t=" in limit, limit
    assert ";q=" in policy and ";w=" in policy, policy
    assert "retry-after" not in answer.headers, dict(answer.headers)


run(
    [
        check_token_verification,
        check_zone_lookup,
        check_life_of_a_record,
        check_list_filters,
        check_paging,
        check_txt_records,
        check_batch,
        check_batch_limit_and_quota_of_a_free_zone,
        check_refused_records,
        check_permissions,
        check_rate_limit_headers,
    ]
)
