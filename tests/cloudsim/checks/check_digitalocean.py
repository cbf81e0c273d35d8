"""Runs DigitalOcean's official client, pydo, unmodified against cloudsim: every call the operator makes."""

import uuid
from urllib.parse import parse_qs, urlparse

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from pydo import Client

from harness import refused, run, same, wait_until

# azure-core, below pydo, sends a bearer token over plain HTTP only if told to, call by call.
PLAIN = {"enforce_https": False}
SCOPES = ["read", "write"]


class Account:
    """An account of its own for one check, so that checks see nothing of each other."""

    def __init__(self, simulator, droplet_limit=100, scopes=SCOPES):
        self.simulator = simulator
        self.name = f"check-{uuid.uuid4().hex[:12]}"
        self.droplet_limit = droplet_limit
        simulator.control("POST", "/digitalocean/accounts", {"name": self.name, "droplet_limit": droplet_limit})
        self.token = self.new_token(scopes)
        self.client = self.client_of(self.token)

    def new_token(self, scopes, **more):
        value = f"dop_v1_{uuid.uuid4().hex}"
        body = {"value": value, "account": self.name, "scopes": scopes, **more}
        self.simulator.control("POST", "/digitalocean/tokens", body)
        return value

    def client_of(self, token):
        # Without retries: a check wants to see the answer itself.
        return Client(token, endpoint=f"{self.simulator.url}/digitalocean", retry_total=0)

    def create(self, name, **more):
        return self.client.droplets.create(body=order(name, **more), **PLAIN)

    def active(self, droplet_id):
        """The droplet once it is active and shows its addresses."""

        def ready():
            droplet = self.client.droplets.get(droplet_id, **PLAIN)["droplet"]
            return droplet if droplet["status"] == "active" and droplet["networks"]["v4"] else None

        return wait_until(f"droplet {droplet_id} active with addresses", ready)


def order(name, **more):
    base = {
        "name": name,
        "region": "fra1",
        "size": "s-1vcpu-1gb",
        "image": "debian-12-x64",
        "user_data": "#cloud-config\nhostname: web\n",
        "monitoring": True,
        "ssh_keys": [],
    }
    return {**base, **more}


def with_headers(_response, body, headers):
    return body, headers


def error_of(exception):
    body = exception.response.json()
    assert body["request_id"], body
    return exception.status_code, body["id"], body["message"]


def check_account(simulator):
    account = Account(simulator, droplet_limit=25)
    body, headers = account.client.account.get(cls=with_headers, **PLAIN)
    shown = body["account"]
    same(shown["droplet_limit"], 25)
    same(shown["status"], "active")
    uuid.UUID(shown["uuid"])
    uuid.UUID(shown["team"]["uuid"])
    assert "@" in shown["email"], shown
    same(headers["ratelimit-limit"], simulator.control("GET", "/digitalocean/settings")["requests_per_hour"])
    same(headers["ratelimit-remaining"], headers["ratelimit-limit"] - 1)
    assert headers["ratelimit-reset"] > 0, headers


def check_regions_sizes_and_images(simulator):
    client = Account(simulator).client
    regions = client.regions.list(per_page=200, **PLAIN)["regions"]
    fra1 = next(region for region in regions if region["slug"] == "fra1")
    assert fra1["available"] and "s-1vcpu-1gb" in fra1["sizes"], fra1
    sizes = client.sizes.list(per_page=200, **PLAIN)["sizes"]
    small = next(size for size in sizes if size["slug"] == "s-1vcpu-1gb")
    same((small["memory"], small["vcpus"], small["disk"]), (1024, 1, 25))
    assert "fra1" in small["regions"] and small["price_monthly"] > 0, small
    images = client.images.list(type="distribution", per_page=200, **PLAIN)["images"]
    debian = next(image for image in images if image["slug"] == "debian-12-x64")
    same((debian["distribution"], debian["public"]), ("Debian", True))
    same(client.images.get("debian-12-x64", **PLAIN)["image"], debian)
    same(client.images.get(debian["id"], **PLAIN)["image"], debian)
    same(client.images.get("debian-1", **PLAIN)["id"], "not_found")


def check_life_of_a_droplet(simulator):
    account = Account(simulator)
    client = account.client
    made = account.create("web-1", tags=["roadstead:c:check", "roadstead:o:abc"])
    droplet = made["droplet"]
    same((droplet["status"], droplet["networks"]), ("new", {"v4": [], "v6": []}))
    same(droplet["tags"], ["roadstead:c:check", "roadstead:o:abc"])
    link = made["links"]["actions"][0]
    same(link["rel"], "create")
    assert link["href"].startswith(f"{simulator.url}/digitalocean/v2/actions/"), link

    ready = account.active(droplet["id"])
    kinds = sorted(network["type"] for network in ready["networks"]["v4"])
    same(kinds, ["private", "public"])
    same((ready["size_slug"], ready["region"]["slug"], ready["image"]["slug"]), ("s-1vcpu-1gb", "fra1", "debian-12-x64"))
    action = client.actions.get(link["id"], **PLAIN)["action"]
    same((action["status"], action["type"], action["resource_id"]), ("completed", "create", droplet["id"]))

    same(client.droplets.destroy(droplet["id"], **PLAIN), None)
    gone = wait_until(
        "the deleted droplet answers 404",
        lambda: client.droplets.get(droplet["id"], **PLAIN).get("id") == "not_found",
    )
    assert gone
    # pydo gives a 404 as the error's body where the API documents that answer.
    same(client.droplets.destroy(droplet["id"], **PLAIN)["id"], "not_found")
    same(client.droplets.list(**PLAIN)["droplets"], [])


def check_lists_and_filters(simulator):
    account = Account(simulator)
    client = account.client
    for number in range(5):
        account.create(f"web-{number}", tags=["web", f"roadstead:o:{number}"])

    def names(**query):
        return [droplet["name"] for droplet in client.droplets.list(**query, **PLAIN)["droplets"]]

    wait_until("all five are listed", lambda: len(names()) == 5)
    same(names(tag_name="roadstead:o:3"), ["web-3"])
    same(names(name="WEB-2"), ["web-2"])
    same(names(name="web"), [])
    same(names(tag_name="nobody"), [])

    seen, page = [], 1
    while True:
        listing = client.droplets.list(tag_name="web", per_page=2, page=page, **PLAIN)
        same(listing["meta"]["total"], 5)
        seen += [droplet["name"] for droplet in listing["droplets"]]
        pages = listing["links"].get("pages", {})
        if "next" not in pages:
            break
        url = urlparse(pages["next"])
        query = parse_qs(url.query)
        same(f"{url.scheme}://{url.netloc}{url.path}", f"{simulator.url}/digitalocean/v2/droplets")
        same((query["tag_name"], query["per_page"]), (["web"], ["2"]))
        page = int(query["page"][0])
    same(sorted(seen), [f"web-{number}" for number in range(5)])
    same(client.droplets.list(per_page=200, **PLAIN)["links"], {})

    both = refused(HttpResponseError, lambda: client.droplets.list(tag_name="web", name="web-1", **PLAIN))
    same(error_of(both)[:2], (422, "unprocessable_entity"))


def check_several_at_once_and_destroy_by_tag(simulator):
    account = Account(simulator)
    body = order("unused", tags=["batch"])
    del body["name"]
    body["names"] = ["a", "b", "c"]
    made = account.client.droplets.create(body=body, **PLAIN)
    same([droplet["name"] for droplet in made["droplets"]], ["a", "b", "c"])
    same(len(made["links"]["actions"]), 3)
    keep = account.create("keep")["droplet"]["id"]
    for droplet in made["droplets"]:
        account.active(droplet["id"])
    same(account.client.droplets.destroy_by_tag(tag_name="batch", **PLAIN), None)

    def left():
        return [droplet["id"] for droplet in account.client.droplets.list(**PLAIN)["droplets"]]

    wait_until("only the untagged droplet is left", lambda: left() == [keep])


def check_refused_orders(simulator):
    account = Account(simulator, droplet_limit=1)
    cases = [
        ({"region": "mars1"}, "You specified an invalid region for Droplet creation."),
        ({"size": "s-99vcpu"}, "You specified an invalid size for Droplet creation."),
        ({"image": "debian-1"}, "You specified an invalid image for Droplet creation."),
        ({"name": "web_1"}, "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"),
        ({"user_data": "x" * 65_537}, "user_data is too long (maximum is 64 KiB)"),
    ]
    for change, message in cases:
        error = refused(HttpResponseError, lambda change=change: account.create(**{"name": "web-1", **change}))
        same(error_of(error), (422, "unprocessable_entity", message))
    account.create("web-1")
    over = refused(HttpResponseError, lambda: account.create("web-2"))
    message = "creating this/these droplet(s) will exceed your droplet limit"
    same(error_of(over), (422, "unprocessable_entity", message))
    simulator.control("PUT", f"/digitalocean/accounts/{account.name}/droplet-limit", {"limit": 2})
    same(account.create("web-2")["droplet"]["name"], "web-2")


def check_actions(simulator):
    account = Account(simulator)
    client = account.client
    droplet_id = account.create("web-1")["droplet"]["id"]
    account.active(droplet_id)

    def act(**body):
        action = client.droplet_actions.post(droplet_id, body=body, **PLAIN)["action"]
        same((action["type"], action["resource_id"], action["resource_type"]), (body["type"], droplet_id, "droplet"))

        def done():
            shown = client.droplet_actions.get(droplet_id, action["id"], **PLAIN)["action"]
            return shown if shown["status"] == "completed" else None

        return wait_until(f"{body['type']} completed", done)

    assert act(type="power_off")["completed_at"]
    same(client.droplets.get(droplet_id, **PLAIN)["droplet"]["status"], "off")
    act(type="power_on")
    act(type="rename", name="web-2")
    same(client.droplets.get(droplet_id, **PLAIN)["droplet"]["name"], "web-2")
    act(type="shutdown")
    kinds = [action["type"] for action in client.droplet_actions.list(droplet_id, **PLAIN)["actions"]]
    same(kinds, ["shutdown", "rename", "power_on", "power_off", "create"])
    again = refused(HttpResponseError, lambda: client.droplet_actions.post(droplet_id, body={"type": "power_off"}, **PLAIN))
    same(error_of(again)[:2], (422, "unprocessable_entity"))


def check_tags(simulator):
    account = Account(simulator)
    client = account.client
    droplet_id = account.create("web-1", tags=["roadstead:k:0123"])["droplet"]["id"]
    same([tag["name"] for tag in client.tags.list(**PLAIN)["tags"]], ["roadstead:k:0123"])
    same(client.tags.create(body={"name": "extra"}, **PLAIN)["tag"]["resources"]["count"], 0)
    resources = {"resources": [{"resource_id": str(droplet_id), "resource_type": "droplet"}]}
    same(client.tags.assign_resources("extra", body=resources, **PLAIN), None)
    tag = client.tags.get("extra", **PLAIN)["tag"]
    same((tag["name"], tag["resources"]["droplets"]["count"]), ("extra", 1))
    same(client.droplets.get(droplet_id, **PLAIN)["droplet"]["tags"], ["roadstead:k:0123", "extra"])
    same(client.tags.unassign_resources("extra", body=resources, **PLAIN), None)
    same(client.droplets.list(tag_name="extra", **PLAIN)["droplets"], [])
    same(client.tags.delete("roadstead:k:0123", **PLAIN), None)
    same(client.droplets.get(droplet_id, **PLAIN)["droplet"]["tags"], [])
    same(client.tags.get("roadstead:k:0123", **PLAIN)["id"], "not_found")
    same(client.tags.delete("roadstead:k:0123", **PLAIN)["id"], "not_found")
    same(client.tags.assign_resources("nobody", body=resources, **PLAIN)["id"], "not_found")
    bad = refused(HttpResponseError, lambda: client.tags.create(body={"name": "a b"}, **PLAIN))
    same(bad.status_code, 422)


def check_tokens(simulator):
    account = Account(simulator)
    stranger = account.client_of("dop_v1_unknown")
    error = refused(ClientAuthenticationError, lambda: stranger.account.get(**PLAIN))
    same(error_of(error), (401, "Unauthorized", "Unable to authenticate you"))

    reader = account.client_of(account.new_token(["read"]))
    same(reader.droplets.list(**PLAIN)["droplets"], [])
    error = refused(HttpResponseError, lambda: reader.droplets.create(body=order("web-1"), **PLAIN))
    same(error_of(error), (403, "Forbidden", "You are not authorized to perform this operation"))

    past = account.client_of(account.new_token(SCOPES, expires_at="2001-01-01T00:00:00Z"))
    same(refused(ClientAuthenticationError, lambda: past.account.get(**PLAIN)).status_code, 401)

    same(account.client.account.get(**PLAIN)["account"]["status"], "active")
    simulator.control("DELETE", f"/digitalocean/tokens/{account.token}")
    same(refused(ClientAuthenticationError, lambda: account.client.account.get(**PLAIN)).status_code, 401)

    other = Account(simulator)
    mine = account.client_of(account.new_token(SCOPES))
    teams = [client.account.get(**PLAIN)["account"]["team"]["uuid"] for client in (mine, other.client)]
    assert teams[0] != teams[1], teams


def check_rate_limit(simulator):
    account = Account(simulator)
    limit = simulator.control("GET", "/digitalocean/settings")["requests_per_minute"]

    def call():
        return account.client.account.get(cls=with_headers, **PLAIN)

    remaining = [call()[1]["ratelimit-remaining"] for _ in range(limit)]
    same(remaining, list(range(remaining[0], remaining[0] - limit, -1)))
    error = refused(HttpResponseError, call)
    same(error_of(error), (429, "too_many_requests", "API Rate limit exceeded."))
    headers = error.response.headers
    same(headers["ratelimit-remaining"], "0")
    assert 0 < int(headers["retry-after"]) <= 60, dict(headers)


run(
    [
        check_account,
        check_regions_sizes_and_images,
        check_life_of_a_droplet,
        check_lists_and_filters,
        check_several_at_once_and_destroy_by_tag,
        check_refused_orders,
        check_actions,
        check_tags,
        check_tokens,
        check_rate_limit,
    ]
)
