"""Runs Cloudflare's official client, cloudflare-python, unmodified against cloudsim's Workers."""

import cloudflare
from cloudflare import Cloudflare

from fixtures import CloudflareAccount
from harness import refused, run, same

CODE = b"export default { async fetch(request, env) { return new Response(env.GREETING); } };\n"
NAME = "shop-lb"


def text(name, value):
    return {"type": "plain_text", "name": name, "text": value}


def secret(name, value):
    return {"type": "secret_text", "name": name, "text": value}


def inherit(name):
    return {"type": "inherit", "name": name}


def codes(error):
    """The status and the error codes of a refusal."""
    same((error.body["success"], error.body["result"]), (False, None))
    return error.status_code, [item["code"] for item in error.body["errors"]]


class Bench:
    """An account with one zone, and a client whose token may write Workers and their routes."""

    def __init__(self, simulator, permissions=("workers:write", "workers_routes:write")):
        self.account = CloudflareAccount(simulator)
        self.zone_id, self.domain = self.account.new_zone("pro")
        token = self.account.new_token(permissions=permissions)
        # Without retries: a check wants to see the answer itself.
        self.client = Cloudflare(api_token=token, base_url=f"{simulator.url}/cloudflare/client/v4", max_retries=0)
        self.scripts = self.client.workers.scripts
        self.settings = self.scripts.script_and_version_settings

    def upload(self, bindings=(), name=NAME, code=CODE, **more):
        strict = {"bindings_inherit": more.pop("bindings_inherit")} if "bindings_inherit" in more else {}
        metadata = {"main_module": "worker.js", "compatibility_date": "2025-09-01", "bindings": list(bindings), **more}
        files = [("worker.js", code, "application/javascript+module")]
        return self.scripts.update(name, account_id=self.account.id, metadata=metadata, files=files, **strict)

    def patch(self, **settings):
        return self.settings.edit(NAME, account_id=self.account.id, settings=settings)

    def bindings(self):
        """Of each binding its type, and its text if that is shown."""
        found = self.settings.get(NAME, account_id=self.account.id)
        return {item.name: (item.type, getattr(item, "text", None)) for item in found.bindings}

    def versions(self):
        return list(self.scripts.versions.list(NAME, account_id=self.account.id))

    def deployments(self):
        # The client takes this listing for one of pages, but keeps what the API documents.
        return self.scripts.deployments.list(NAME, account_id=self.account.id).to_dict()["result"]["deployments"]

    def serving(self):
        return [share["version_id"] for share in self.deployments()[0]["versions"]]


def check_life_of_a_script(simulator):
    bench = Bench(simulator)
    made = bench.upload([text("GREETING", "hello"), secret("KEY", "s3cret")])
    same((made.id, made.has_modules, made.compatibility_date), (NAME, True, "2025-09-01"))
    assert made.etag and made.created_on and made.startup_time_ms, made
    listed = list(bench.scripts.list(account_id=bench.account.id))
    same([(script.id, script.etag) for script in listed], [(NAME, made.etag)])
    same(bench.bindings(), {"GREETING": ("plain_text", "hello"), "KEY": ("secret_text", None)})
    same(bench.scripts.get(NAME, account_id=bench.account.id), CODE.decode())
    same(bench.upload(code=CODE + b"// changed\n").etag == made.etag, False)
    same(bench.bindings(), {})
    bench.scripts.delete(NAME, account_id=bench.account.id)
    error = refused(cloudflare.NotFoundError, lambda: bench.settings.get(NAME, account_id=bench.account.id))
    same(codes(error), (404, [10007]))
    error = refused(cloudflare.NotFoundError, lambda: bench.scripts.delete(NAME, account_id=bench.account.id))
    same(codes(error), (404, [10007]))


def check_settings_replace_all_bindings_but_those_that_are_inherited(simulator):
    bench = Bench(simulator)
    bench.upload([text("GREETING", "hello"), text("GOES", "x"), secret("KEY", "s3cret")])
    etag = list(bench.scripts.list(account_id=bench.account.id))[0].etag
    changed = bench.patch(bindings=[text("GREETING", "good day"), inherit("KEY"), inherit("NOTHING")])
    same(sorted(item.name for item in changed.bindings), ["GREETING", "KEY"])
    same(bench.bindings(), {"GREETING": ("plain_text", "good day"), "KEY": ("secret_text", None)})
    same(list(bench.scripts.list(account_id=bench.account.id))[0].etag, etag)
    renamed = {**inherit("NEW_KEY"), "old_name": "KEY"}
    bench.patch(bindings=[renamed])
    same(bench.bindings(), {"NEW_KEY": ("secret_text", None)})
    # Without the list they stay.
    bench.patch(compatibility_date="2025-10-01")
    same(bench.bindings(), {"NEW_KEY": ("secret_text", None)})
    same(bench.settings.get(NAME, account_id=bench.account.id).compatibility_date, "2025-10-01")
    error = refused(cloudflare.NotFoundError, lambda: bench.settings.edit("none", account_id=bench.account.id, settings={}))
    same(codes(error), (404, [10007]))


def check_uploads_keep_and_inherit_bindings(simulator):
    bench = Bench(simulator)
    bench.upload([text("GREETING", "hello"), secret("KEY", "s3cret")])
    bench.upload([inherit("GREETING"), inherit("NOTHING")], keep_bindings=["secret_text"])
    same(bench.bindings(), {"GREETING": ("plain_text", "hello"), "KEY": ("secret_text", None)})
    strictly = lambda: bench.upload([inherit("NOTHING")], bindings_inherit="strict")
    same(refused(cloudflare.BadRequestError, strictly).status_code, 400)
    same(len(bench.versions()), 2)


def check_versions_and_deployments(simulator):
    bench = Bench(simulator)
    bench.upload([text("GREETING", "one")])
    bench.patch(bindings=[text("GREETING", "two")])
    second, first = bench.versions()
    same((second.number, first.number), (2, 1))
    same(bench.serving(), [second.id])
    # The client has no usable type for a version's bindings, so these two answers are read as they come.
    raw = bench.scripts.versions.with_raw_response
    whole = raw.get(first.id, account_id=bench.account.id, script_name=NAME).json()["result"]
    same((whole["id"], whole["resources"]["bindings"]), (first.id, [text("GREETING", "one")]))

    metadata = {"main_module": "worker.js", "bindings": [text("GREETING", "three")]}
    files = [("worker.js", CODE, "application/javascript+module")]
    third = raw.create(NAME, account_id=bench.account.id, metadata=metadata, files=files).json()["result"]["id"]
    # A version that is only uploaded serves nothing.
    same(bench.serving(), [second.id])

    def deploy(*shares):
        versions = [{"version_id": id, "percentage": share} for id, share in shares]
        return bench.scripts.deployments.create(
            NAME, account_id=bench.account.id, strategy="percentage", versions=versions
        )

    made = deploy((second.id, 90), (third, 10))
    same([(item.version_id, item.percentage) for item in made.versions], [(second.id, 90), (third, 10)])
    same(bench.deployments()[0]["id"], made.id)
    same(refused(cloudflare.BadRequestError, lambda: deploy((second.id, 90))).status_code, 400)
    same(len(bench.deployments()), 3)


def check_refused_uploads(simulator):
    bench = Bench(simulator)

    def code_of(**more):
        return codes(refused(cloudflare.BadRequestError, lambda: bench.upload(**more)))

    same(code_of(name="No-Capitals"), (400, [10016]))
    same(code_of(main_module="other.js"), (400, [10021]))
    same(code_of(bindings=[text("A", "1"), text("A", "2")]), (400, [10021]))
    same(code_of(bindings=[text("", "1")]), (400, [10052]))
    same(code_of(bindings=[text("ORIGINS", "x" * 5121)]), (400, [10054]))
    same(code_of(bindings=[text(f"B{number}", "x") for number in range(129)]), (400, [10055]))
    same(list(bench.scripts.list(account_id=bench.account.id)), [])
    bench.upload([text("ORIGINS", "x" * 5120)])
    error = refused(cloudflare.BadRequestError, lambda: bench.patch(bindings=[text("ORIGINS", "x" * 5121)]))
    same(codes(error), (400, [10054]))


def check_routes(simulator):
    bench = Bench(simulator)
    routes = bench.client.workers.routes
    pattern = f"shop.{bench.domain}/*"
    make = lambda **more: routes.create(zone_id=bench.zone_id, **{"pattern": pattern, "script": NAME, **more})
    same(codes(refused(cloudflare.BadRequestError, make)), (400, [10019]))
    bench.upload()
    made = make()
    same((made.pattern, made.script), (pattern, NAME))
    same([route.id for route in routes.list(zone_id=bench.zone_id)], [made.id])
    same(codes(refused(cloudflare.ConflictError, make)), (409, [10020]))
    same(refused(cloudflare.BadRequestError, lambda: make(pattern="elsewhere.example/*")).status_code, 400)
    changed = routes.update(made.id, zone_id=bench.zone_id, pattern=f"www.{bench.domain}/*", script=NAME)
    same((changed.id, changed.pattern), (made.id, f"www.{bench.domain}/*"))
    same(routes.get(made.id, zone_id=bench.zone_id).pattern, f"www.{bench.domain}/*")
    same(routes.delete(made.id, zone_id=bench.zone_id).id, made.id)
    same(list(routes.list(zone_id=bench.zone_id)), [])
    same(refused(cloudflare.NotFoundError, lambda: routes.delete(made.id, zone_id=bench.zone_id)).status_code, 404)


def check_custom_domains(simulator):
    bench = Bench(simulator)
    domains, hostname = bench.client.workers.domains, f"lb.{bench.domain}"
    at = {"account_id": bench.account.id}
    make = lambda hostname=hostname: domains.update(hostname=hostname, service=NAME, zone_id=bench.zone_id, **at)
    same(codes(refused(cloudflare.NotFoundError, make)), (404, [10007]))
    bench.upload()
    made = make()
    same((made.hostname, made.service, made.zone_id, made.zone_name), (hostname, NAME, bench.zone_id, bench.domain))
    same([domain.id for domain in domains.list(hostname=hostname, **at)], [made.id])
    same(list(domains.list(hostname="other.example", **at)), [])
    same(domains.get(made.id, **at).hostname, hostname)
    record = {"type": "A", "name": f"taken.{bench.domain}", "content": "203.0.113.7", "ttl": 300}
    bench.client.dns.records.create(zone_id=bench.zone_id, **record)
    same(codes(refused(cloudflare.ConflictError, lambda: make(record["name"]))), (409, [100117]))
    domains.delete(made.id, **at)
    same(list(domains.list(**at)), [])


def check_subdomain(simulator):
    bench = Bench(simulator)
    bench.upload()
    at = {"account_id": bench.account.id}
    same(bench.scripts.subdomain.get(NAME, **at).enabled, False)
    same(bench.scripts.subdomain.create(NAME, enabled=True, **at).enabled, True)
    same(bench.scripts.subdomain.get(NAME, **at).enabled, True)


def check_permissions(simulator):
    for permissions in ((), ("workers:read",)):
        bench = Bench(simulator, permissions)
        same(codes(refused(cloudflare.PermissionDeniedError, bench.upload)), (403, [10000]))
    same(list(bench.scripts.list(account_id=bench.account.id)), [])
    at_routes = lambda: list(bench.client.workers.routes.list(zone_id=bench.zone_id))
    same(codes(refused(cloudflare.PermissionDeniedError, at_routes)), (403, [10000]))
    other = CloudflareAccount(simulator)
    foreign = lambda: list(bench.scripts.list(account_id=other.id))
    same(codes(refused(cloudflare.PermissionDeniedError, foreign)), (403, [10000]))


run(
    [
        check_life_of_a_script,
        check_settings_replace_all_bindings_but_those_that_are_inherited,
        check_uploads_keep_and_inherit_bindings,
        check_versions_and_deployments,
        check_refused_uploads,
        check_routes,
        check_custom_domains,
        check_subdomain,
        check_permissions,
    ]
)
